// Gradients of matmul with both operands in bf16 or f16, on Hopper. Those of weights are added to what is there.
//
// 4,096 rows of 4,096 by 4,096 weights are 139 us each at the datasheet's rate, as the forward product: operands of
// either major have the same way through L2 and shared memory. Adding to dw reads and writes 67 MB of f32 each, 28 us
// at 4.8 TB/s, by the copy engine while other tiles are multiplied; with 512 tiles nothing is cut into ranges.
#include "lib/matmul_wgmma.h"

// dx[t,k] = sum over n of dy[t,n] w[n,k]: the columns k are neighbours in w.
template <WgmmaFormat FORMAT, uint32_t COLUMNS, uint32_t STAGES, uint32_t BLOCKS>
DEVICE void input(const TensorMap& dy, const TensorMap& w, const ByBoxes& boxes, const Product& product) {
  matmul_wgmma<FORMAT, WgmmaMajor::k, WgmmaMajor::mn, COLUMNS, STAGES, BLOCKS>(dy, w, boxes, product);
}

// dw[n,k] += sum over t of dy[t,n] x[t,k]: rows n and columns k are neighbours in dy and x.
template <WgmmaFormat FORMAT, uint32_t COLUMNS, uint32_t STAGES, uint32_t BLOCKS>
DEVICE void weight(const TensorMap& dy, const TensorMap& x, const ByBoxes& boxes, const Product& product) {
  matmul_wgmma<FORMAT, WgmmaMajor::mn, WgmmaMajor::mn, COLUMNS, STAGES, BLOCKS>(dy, x, boxes, product);
}

KERNEL_CLUSTER(matmul_backward_input_wgmma_bf16_2x256, 384, 229440, 2, TENSOR_MAP dy, TENSOR_MAP w, TENSOR_MAP y,
               uint32_t rows, uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t splits,
               uint32_t split_depth) {
  const ByBoxes boxes(y, output_format, false);
  input<WgmmaFormat::bf16, 256, 4, 2>(dy, w, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_CLUSTER(matmul_backward_input_wgmma_bf16_2x192, 384, 196672, 2, TENSOR_MAP dy, TENSOR_MAP w, TENSOR_MAP y,
               uint32_t rows, uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t splits,
               uint32_t split_depth) {
  const ByBoxes boxes(y, output_format, false);
  input<WgmmaFormat::bf16, 192, 4, 2>(dy, w, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_backward_input_wgmma_bf16_128, 384, 229472, TENSOR_MAP dy, TENSOR_MAP w, TENSOR_MAP y,
              uint32_t rows, uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const ByBoxes boxes(y, output_format, false);
  input<WgmmaFormat::bf16, 128, 6, 1>(dy, w, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_backward_input_wgmma_bf16_64, 384, 229504, TENSOR_MAP dy, TENSOR_MAP w, TENSOR_MAP y,
              uint32_t rows, uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const ByBoxes boxes(y, output_format, false);
  input<WgmmaFormat::bf16, 64, 8, 1>(dy, w, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_CLUSTER(matmul_backward_input_wgmma_f16_2x256, 384, 229440, 2, TENSOR_MAP dy, TENSOR_MAP w, TENSOR_MAP y,
               uint32_t rows, uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t splits,
               uint32_t split_depth) {
  const ByBoxes boxes(y, output_format, false);
  input<WgmmaFormat::f16, 256, 4, 2>(dy, w, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_CLUSTER(matmul_backward_input_wgmma_f16_2x192, 384, 196672, 2, TENSOR_MAP dy, TENSOR_MAP w, TENSOR_MAP y,
               uint32_t rows, uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t splits,
               uint32_t split_depth) {
  const ByBoxes boxes(y, output_format, false);
  input<WgmmaFormat::f16, 192, 4, 2>(dy, w, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_backward_input_wgmma_f16_128, 384, 229472, TENSOR_MAP dy, TENSOR_MAP w, TENSOR_MAP y,
              uint32_t rows, uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const ByBoxes boxes(y, output_format, false);
  input<WgmmaFormat::f16, 128, 6, 1>(dy, w, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_backward_input_wgmma_f16_64, 384, 229504, TENSOR_MAP dy, TENSOR_MAP w, TENSOR_MAP y,
              uint32_t rows, uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const ByBoxes boxes(y, output_format, false);
  input<WgmmaFormat::f16, 64, 8, 1>(dy, w, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_CLUSTER(matmul_backward_weight_wgmma_bf16_2x256, 384, 229440, 2, TENSOR_MAP dy, TENSOR_MAP x, TENSOR_MAP y,
               uint32_t rows, uint32_t columns, uint32_t depth, uint32_t accumulate, uint32_t splits,
               uint32_t split_depth) {
  const ByBoxes boxes(y, FORMAT_F32, accumulate != 0);
  weight<WgmmaFormat::bf16, 256, 4, 2>(dy, x, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_CLUSTER(matmul_backward_weight_wgmma_bf16_2x192, 384, 196672, 2, TENSOR_MAP dy, TENSOR_MAP x, TENSOR_MAP y,
               uint32_t rows, uint32_t columns, uint32_t depth, uint32_t accumulate, uint32_t splits,
               uint32_t split_depth) {
  const ByBoxes boxes(y, FORMAT_F32, accumulate != 0);
  weight<WgmmaFormat::bf16, 192, 4, 2>(dy, x, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_backward_weight_wgmma_bf16_128, 384, 229472, TENSOR_MAP dy, TENSOR_MAP x, TENSOR_MAP y,
              uint32_t rows, uint32_t columns, uint32_t depth, uint32_t accumulate, uint32_t splits,
              uint32_t split_depth) {
  const ByBoxes boxes(y, FORMAT_F32, accumulate != 0);
  weight<WgmmaFormat::bf16, 128, 6, 1>(dy, x, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_backward_weight_wgmma_bf16_64, 384, 229504, TENSOR_MAP dy, TENSOR_MAP x, TENSOR_MAP y,
              uint32_t rows, uint32_t columns, uint32_t depth, uint32_t accumulate, uint32_t splits,
              uint32_t split_depth) {
  const ByBoxes boxes(y, FORMAT_F32, accumulate != 0);
  weight<WgmmaFormat::bf16, 64, 8, 1>(dy, x, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_CLUSTER(matmul_backward_weight_wgmma_f16_2x256, 384, 229440, 2, TENSOR_MAP dy, TENSOR_MAP x, TENSOR_MAP y,
               uint32_t rows, uint32_t columns, uint32_t depth, uint32_t accumulate, uint32_t splits,
               uint32_t split_depth) {
  const ByBoxes boxes(y, FORMAT_F32, accumulate != 0);
  weight<WgmmaFormat::f16, 256, 4, 2>(dy, x, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_CLUSTER(matmul_backward_weight_wgmma_f16_2x192, 384, 196672, 2, TENSOR_MAP dy, TENSOR_MAP x, TENSOR_MAP y,
               uint32_t rows, uint32_t columns, uint32_t depth, uint32_t accumulate, uint32_t splits,
               uint32_t split_depth) {
  const ByBoxes boxes(y, FORMAT_F32, accumulate != 0);
  weight<WgmmaFormat::f16, 192, 4, 2>(dy, x, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_backward_weight_wgmma_f16_128, 384, 229472, TENSOR_MAP dy, TENSOR_MAP x, TENSOR_MAP y,
              uint32_t rows, uint32_t columns, uint32_t depth, uint32_t accumulate, uint32_t splits,
              uint32_t split_depth) {
  const ByBoxes boxes(y, FORMAT_F32, accumulate != 0);
  weight<WgmmaFormat::f16, 128, 6, 1>(dy, x, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_backward_weight_wgmma_f16_64, 384, 229504, TENSOR_MAP dy, TENSOR_MAP x, TENSOR_MAP y,
              uint32_t rows, uint32_t columns, uint32_t depth, uint32_t accumulate, uint32_t splits,
              uint32_t split_depth) {
  const ByBoxes boxes(y, FORMAT_F32, accumulate != 0);
  weight<WgmmaFormat::f16, 64, 8, 1>(dy, x, boxes, {rows, columns, depth, splits, split_depth});
}
