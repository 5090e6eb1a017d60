// matmul_grouped with x and w both in bf16 or f16, on Hopper: lib/matmul_wgmma.h's product, whose pieces are tiles of
// one expert's rows. Rows of no expert are matmul_grouped_zero's.
//
// Limits are those of lib/matmul_wgmma.h for full tiles; an expert's last one is half empty on the average: 512 rows an
// expert leave 89%. Few rows for many experts are limited by the weights' way from memory: 64 experts of 2,048 by 1,408
// in bf16 are 369 MB, 77 us at 4.8 TB/s, as long as products of 13,000 rows. Tiles of 64 rows would not help there: up
// to 128 rows an expert, both of these tiles take w from L2 (25 to 32 bytes a cycle) faster than memory gives it (20).
#include "lib/grouped_pieces.h"
#include "lib/matmul_wgmma.h"

template <WgmmaFormat FORMAT, uint32_t COLUMNS, uint32_t STAGES, uint32_t BLOCKS>
DEVICE void grouped(const TensorMap& x, const TensorMap& w, const uint32_t* offsets, uint32_t experts,
                    const ByBoxes& boxes, const Product& product) {
  const GroupedPieces<COLUMNS * BLOCKS> pieces(product, offsets, experts, product.columns);
  matmul_wgmma<FORMAT, WgmmaMajor::k, WgmmaMajor::k, COLUMNS, STAGES, BLOCKS>(x, w, boxes, product, pieces);
}

KERNEL_CLUSTER(matmul_grouped_wgmma_bf16_2x256, 384, 229440, 2, TENSOR_MAP x, TENSOR_MAP w, const uint32_t* offsets,
               TENSOR_MAP y, void* y_rows, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t experts,
               uint32_t output_format) {
  const ByBoxes boxes(y, output_format, false, y_rows);
  grouped<WgmmaFormat::bf16, 256, 4, 2>(x, w, offsets, experts, boxes, {rows, columns, depth, 1, depth});
}

KERNEL_SHARED(matmul_grouped_wgmma_bf16_128, 384, 229472, TENSOR_MAP x, TENSOR_MAP w, const uint32_t* offsets,
              TENSOR_MAP y, void* y_rows, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t experts,
              uint32_t output_format) {
  const ByBoxes boxes(y, output_format, false, y_rows);
  grouped<WgmmaFormat::bf16, 128, 6, 1>(x, w, offsets, experts, boxes, {rows, columns, depth, 1, depth});
}

KERNEL_CLUSTER(matmul_grouped_wgmma_f16_2x256, 384, 229440, 2, TENSOR_MAP x, TENSOR_MAP w, const uint32_t* offsets,
               TENSOR_MAP y, void* y_rows, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t experts,
               uint32_t output_format) {
  const ByBoxes boxes(y, output_format, false, y_rows);
  grouped<WgmmaFormat::f16, 256, 4, 2>(x, w, offsets, experts, boxes, {rows, columns, depth, 1, depth});
}

KERNEL_SHARED(matmul_grouped_wgmma_f16_128, 384, 229472, TENSOR_MAP x, TENSOR_MAP w, const uint32_t* offsets,
              TENSOR_MAP y, void* y_rows, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t experts,
              uint32_t output_format) {
  const ByBoxes boxes(y, output_format, false, y_rows);
  grouped<WgmmaFormat::f16, 128, 6, 1>(x, w, offsets, experts, boxes, {rows, columns, depth, 1, depth});
}
