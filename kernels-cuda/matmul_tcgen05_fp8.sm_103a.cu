// matmul with x and w both in e4m3_128, on Blackwell: y = activation(x w^T + bias) + residual.
#include "lib/matmul_tcgen05_fp8.h"

template <class W>
DEVICE void forward(const Operands& operands, const Epilogue& epilogue, const Product& product) {
  const Pieces<W::COLUMNS, W::CTAS * TILE_ROWS> pieces(product);
  matmul_tcgen05_fp8<W>(operands, product.columns, epilogue, product, pieces);
}

KERNEL_CLUSTER(matmul_tcgen05_fp8_pair_256, 384, 208608, 2, TENSOR_MAP x, TENSOR_MAP w, const void* x_blocks,
               const void* w_blocks, OPTIONAL const void* bias, OPTIONAL const float* residual, void* y, uint32_t rows,
               uint32_t columns, uint32_t depth, uint32_t bias_format, uint32_t activation, uint32_t output_format,
               uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  forward<Pair>({x, w, x_blocks, w_blocks}, epilogue, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_tcgen05_fp8_128, 384, 206048, TENSOR_MAP x, TENSOR_MAP w, const void* x_blocks,
              const void* w_blocks, OPTIONAL const void* bias, OPTIONAL const float* residual, void* y, uint32_t rows,
              uint32_t columns, uint32_t depth, uint32_t bias_format, uint32_t activation, uint32_t output_format,
              uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  forward<Single>({x, w, x_blocks, w_blocks}, epilogue, {rows, columns, depth, splits, split_depth});
}
