// Gradients of matmul_grouped with both operands in bf16 or f16, on Hopper. Those of weights are added to what is
// there.
//
// 8,192 rows for 8 experts of 14,336 by 4,096 are 962 GFLOP each, 973 us at the datasheet's rate. dx reads 940 MB of
// weights, 196 us at 4.8 TB/s, while it multiplies. Adding to dw reads and writes 1,879 MB of f32 each, 783 us, by the
// copy engine while other tiles are multiplied: from 800 rows an expert on tensor cores limit, below memory. An
// expert's last tile of dx, and its last stage of dw, are half empty on the average: 1,024 rows an expert leave 94% and
// 97%.
//
// Clearing dw's last stage is 24 KB at 128 bytes a cycle at most and a barrier, about 250 cycles of a tile's 16,000.
#include "lib/grouped_pieces.h"
#include "lib/matmul_wgmma.h"

// dx[t,k] = sum over n of dy[t,n] w[e,n,k]: the columns k are neighbours in w. A stage's n are of one expert: there are
// a multiple of 64. Rows of no expert are matmul_grouped_zero's.
template <WgmmaFormat FORMAT, uint32_t COLUMNS, uint32_t STAGES, uint32_t BLOCKS>
DEVICE void input(const TensorMap& dy, const TensorMap& w, const uint32_t* offsets, uint32_t experts,
                  const ByBoxes& boxes, const Product& product) {
  const GroupedPieces<COLUMNS * BLOCKS> pieces(product, offsets, experts, product.depth);
  matmul_wgmma<FORMAT, WgmmaMajor::k, WgmmaMajor::mn, COLUMNS, STAGES, BLOCKS>(dy, w, boxes, product, pieces);
}

// dw[e,n,k] += sum over e's rows t of dy[t,n] x[t,k]: rows n, a multiple of 16, and columns k are neighbours in dy and
// x.
template <WgmmaFormat FORMAT, uint32_t COLUMNS, uint32_t STAGES, uint32_t BLOCKS>
DEVICE void weight(const TensorMap& dy, const TensorMap& x, const uint32_t* offsets, uint32_t experts,
                   const TensorMap& y, const Product& product) {
  const GroupSums<COLUMNS * BLOCKS> pieces(product, offsets, experts);
  matmul_wgmma<FORMAT, WgmmaMajor::mn, WgmmaMajor::mn, COLUMNS, STAGES, BLOCKS>(dy, x, ByBoxes(y, FORMAT_F32, true),
                                                                               product, pieces);
}

KERNEL_CLUSTER(matmul_grouped_backward_input_wgmma_bf16_2x256, 384, 229440, 2, TENSOR_MAP dy, TENSOR_MAP w,
               const uint32_t* offsets, TENSOR_MAP y, void* y_rows, uint32_t rows, uint32_t columns, uint32_t depth,
               uint32_t experts, uint32_t output_format) {
  const ByBoxes boxes(y, output_format, false, y_rows);
  input<WgmmaFormat::bf16, 256, 4, 2>(dy, w, offsets, experts, boxes, {rows, columns, depth, 1, depth});
}

KERNEL_SHARED(matmul_grouped_backward_input_wgmma_bf16_128, 384, 229472, TENSOR_MAP dy, TENSOR_MAP w,
              const uint32_t* offsets, TENSOR_MAP y, void* y_rows, uint32_t rows, uint32_t columns, uint32_t depth,
              uint32_t experts, uint32_t output_format) {
  const ByBoxes boxes(y, output_format, false, y_rows);
  input<WgmmaFormat::bf16, 128, 6, 1>(dy, w, offsets, experts, boxes, {rows, columns, depth, 1, depth});
}

KERNEL_CLUSTER(matmul_grouped_backward_input_wgmma_f16_2x256, 384, 229440, 2, TENSOR_MAP dy, TENSOR_MAP w,
               const uint32_t* offsets, TENSOR_MAP y, void* y_rows, uint32_t rows, uint32_t columns, uint32_t depth,
               uint32_t experts, uint32_t output_format) {
  const ByBoxes boxes(y, output_format, false, y_rows);
  input<WgmmaFormat::f16, 256, 4, 2>(dy, w, offsets, experts, boxes, {rows, columns, depth, 1, depth});
}

KERNEL_SHARED(matmul_grouped_backward_input_wgmma_f16_128, 384, 229472, TENSOR_MAP dy, TENSOR_MAP w,
              const uint32_t* offsets, TENSOR_MAP y, void* y_rows, uint32_t rows, uint32_t columns, uint32_t depth,
              uint32_t experts, uint32_t output_format) {
  const ByBoxes boxes(y, output_format, false, y_rows);
  input<WgmmaFormat::f16, 128, 6, 1>(dy, w, offsets, experts, boxes, {rows, columns, depth, 1, depth});
}

KERNEL_CLUSTER(matmul_grouped_backward_weight_wgmma_bf16_2x256, 384, 229440, 2, TENSOR_MAP dy, TENSOR_MAP x,
               const uint32_t* offsets, TENSOR_MAP y, uint32_t rows, uint32_t columns, uint32_t depth,
               uint32_t experts) {
  weight<WgmmaFormat::bf16, 256, 4, 2>(dy, x, offsets, experts, y, {rows, columns, depth, 1, depth});
}

KERNEL_SHARED(matmul_grouped_backward_weight_wgmma_bf16_128, 384, 229472, TENSOR_MAP dy, TENSOR_MAP x,
              const uint32_t* offsets, TENSOR_MAP y, uint32_t rows, uint32_t columns, uint32_t depth,
              uint32_t experts) {
  weight<WgmmaFormat::bf16, 128, 6, 1>(dy, x, offsets, experts, y, {rows, columns, depth, 1, depth});
}

KERNEL_CLUSTER(matmul_grouped_backward_weight_wgmma_f16_2x256, 384, 229440, 2, TENSOR_MAP dy, TENSOR_MAP x,
               const uint32_t* offsets, TENSOR_MAP y, uint32_t rows, uint32_t columns, uint32_t depth,
               uint32_t experts) {
  weight<WgmmaFormat::f16, 256, 4, 2>(dy, x, offsets, experts, y, {rows, columns, depth, 1, depth});
}

KERNEL_SHARED(matmul_grouped_backward_weight_wgmma_f16_128, 384, 229472, TENSOR_MAP dy, TENSOR_MAP x,
              const uint32_t* offsets, TENSOR_MAP y, uint32_t rows, uint32_t columns, uint32_t depth,
              uint32_t experts) {
  weight<WgmmaFormat::f16, 128, 6, 1>(dy, x, offsets, experts, y, {rows, columns, depth, 1, depth});
}
