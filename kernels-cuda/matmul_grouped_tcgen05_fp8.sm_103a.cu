// matmul_grouped with x and w both in e4m3_128, on Blackwell: lib/matmul_tcgen05_fp8.h's product, whose pieces are
// tiles of one expert's rows. Rows of no expert are matmul_grouped_zero's.
#include "lib/grouped_pieces.h"
#include "lib/matmul_tcgen05_fp8.h"

template <class W>
DEVICE void grouped(const Operands& operands, const uint32_t* offsets, uint32_t experts, const Epilogue& epilogue,
                    const Product& product) {
  const GroupedPieces<W::COLUMNS, W::CTAS * TILE_ROWS> pieces(product, offsets, experts, product.columns);
  matmul_tcgen05_fp8<W>(operands, experts * product.columns, epilogue, product, pieces);
}

KERNEL_CLUSTER(matmul_grouped_tcgen05_fp8_pair_256, 384, 208608, 2, TENSOR_MAP x, TENSOR_MAP w, const void* x_blocks,
               const void* w_blocks, const uint32_t* offsets, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
               uint32_t experts, uint32_t output_format) {
  const Epilogue epilogue = plain_epilogue(y, columns, output_format, false);
  grouped<Pair>({x, w, x_blocks, w_blocks}, offsets, experts, epilogue, {rows, columns, depth, 1, depth});
}

KERNEL_SHARED(matmul_grouped_tcgen05_fp8_128, 384, 206048, TENSOR_MAP x, TENSOR_MAP w, const void* x_blocks,
              const void* w_blocks, const uint32_t* offsets, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
              uint32_t experts, uint32_t output_format) {
  const Epilogue epilogue = plain_epilogue(y, columns, output_format, false);
  grouped<Single>({x, w, x_blocks, w_blocks}, offsets, experts, epilogue, {rows, columns, depth, 1, depth});
}
