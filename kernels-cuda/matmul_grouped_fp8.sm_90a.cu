// matmul_grouped with x and w both in e4m3_128, on Hopper: lib/matmul_fp8.h's product, whose pieces are tiles of one
// expert's rows. Rows of no expert are matmul_grouped_zero's.
//
// Limits are those of lib/matmul_fp8.h for full tiles, half of matmul_grouped_wgmma's times and bytes: 64 experts of
// 2,048 by 1,408 are 190 MB, 40 us at 4.8 TB/s, as long as products of 13,000 rows.
#include "lib/grouped_pieces.h"
#include "lib/matmul_fp8.h"

template <uint32_t BLOCKS>
DEVICE void grouped(const TensorMap& x, const TensorMap& w, const void* x_blocks, const void* w_blocks,
                    const uint32_t* offsets, uint32_t experts, const ByBoxes& boxes, const Product& product) {
  const GroupedPieces<COLUMNS * BLOCKS> pieces(product, offsets, experts, product.columns);
  matmul_fp8<4, BLOCKS>(x, w, BlockScales(x_blocks, product.rows, product.depth),
                        BlockScales(w_blocks, experts * product.columns, product.depth), boxes, product, pieces);
}

KERNEL_CLUSTER(matmul_grouped_fp8_2x128, 384, 168000, 2, TENSOR_MAP x, TENSOR_MAP w, const void* x_blocks,
               const void* w_blocks, const uint32_t* offsets, TENSOR_MAP y, void* y_rows, uint32_t rows,
               uint32_t columns, uint32_t depth, uint32_t experts, uint32_t output_format) {
  const ByBoxes boxes(y, output_format, false, y_rows);
  grouped<2>(x, w, x_blocks, w_blocks, offsets, experts, boxes, {rows, columns, depth, 1, depth});
}

KERNEL_SHARED(matmul_grouped_fp8_128, 384, 168000, TENSOR_MAP x, TENSOR_MAP w, const void* x_blocks,
              const void* w_blocks, const uint32_t* offsets, TENSOR_MAP y, void* y_rows, uint32_t rows,
              uint32_t columns, uint32_t depth, uint32_t experts, uint32_t output_format) {
  const ByBoxes boxes(y, output_format, false, y_rows);
  grouped<1>(x, w, x_blocks, w_blocks, offsets, experts, boxes, {rows, columns, depth, 1, depth});
}
