// matmul with x and w of one format on Blackwell's tensor cores: y = activation(x w^T + bias) + residual.
#include "lib/matmul_tcgen05.h"

static_assert(RING_BYTES<Way<Tcgen05Format::bf16, 2, 256, 6>, RowsByThreads> == 215200);
static_assert(RING_BYTES<Way<Tcgen05Format::bf16, 1, 128, 6>, RowsByThreads> == 215200);
static_assert(RING_BYTES<Way<Tcgen05Format::mxfp8, 2, 224, 6>, RowsByThreads> == 212112);
static_assert(RING_BYTES<Way<Tcgen05Format::mxfp8, 1, 192, 5>, RowsByThreads> == 231040);
static_assert(RING_BYTES<Way<Tcgen05Format::nvfp4, 2, 224, 5>, RowsByThreads> == 202880);
static_assert(RING_BYTES<Way<Tcgen05Format::nvfp4, 1, 192, 4>, RowsByThreads> == 206960);

KERNEL_CLUSTER(matmul_tcgen05_bf16_pair_256, 192, 215200, 2, TENSOR_MAP x, TENSOR_MAP w, OPTIONAL const void* bias,
               OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
               uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
               uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_tcgen05<Way<Tcgen05Format::bf16, 2, 256, 6>>({x, w}, RowsByThreads{epilogue},
                                                      {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_tcgen05_bf16_128, 192, 215200, TENSOR_MAP x, TENSOR_MAP w, OPTIONAL const void* bias,
              OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
              uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_tcgen05<Way<Tcgen05Format::bf16, 1, 128, 6>>({x, w}, RowsByThreads{epilogue},
                                                      {rows, columns, depth, splits, split_depth});
}

KERNEL_CLUSTER(matmul_tcgen05_f16_pair_256, 192, 215200, 2, TENSOR_MAP x, TENSOR_MAP w, OPTIONAL const void* bias,
               OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
               uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
               uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_tcgen05<Way<Tcgen05Format::f16, 2, 256, 6>>({x, w}, RowsByThreads{epilogue},
                                                     {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_tcgen05_f16_128, 192, 215200, TENSOR_MAP x, TENSOR_MAP w, OPTIONAL const void* bias,
              OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
              uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_tcgen05<Way<Tcgen05Format::f16, 1, 128, 6>>({x, w}, RowsByThreads{epilogue},
                                                     {rows, columns, depth, splits, split_depth});
}

KERNEL_CLUSTER(matmul_tcgen05_mxfp8_pair_224, 288, 212112, 2, TENSOR_MAP x, TENSOR_MAP w, const void* x_blocks,
               const void* w_blocks, OPTIONAL const void* bias, OPTIONAL const float* residual, void* y, uint32_t rows,
               uint32_t columns, uint32_t depth, uint32_t bias_format, uint32_t activation, uint32_t output_format,
               uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_tcgen05<Way<Tcgen05Format::mxfp8, 2, 224, 6>>({x, w, x_blocks, w_blocks}, RowsByThreads{epilogue},
                                                       {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_tcgen05_mxfp8_192, 288, 231040, TENSOR_MAP x, TENSOR_MAP w, const void* x_blocks,
              const void* w_blocks, OPTIONAL const void* bias, OPTIONAL const float* residual, void* y, uint32_t rows,
              uint32_t columns, uint32_t depth, uint32_t bias_format, uint32_t activation, uint32_t output_format,
              uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_tcgen05<Way<Tcgen05Format::mxfp8, 1, 192, 5>>({x, w, x_blocks, w_blocks}, RowsByThreads{epilogue},
                                                       {rows, columns, depth, splits, split_depth});
}

KERNEL_CLUSTER(matmul_tcgen05_nvfp4_pair_224, 288, 202880, 2, TENSOR_MAP x, TENSOR_MAP w, const void* x_blocks,
               const void* w_blocks, OPTIONAL const void* bias, OPTIONAL const float* residual, void* y, uint32_t rows,
               uint32_t columns, uint32_t depth, uint32_t bias_format, uint32_t activation, uint32_t output_format,
               uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_tcgen05<Way<Tcgen05Format::nvfp4, 2, 224, 5>>({x, w, x_blocks, w_blocks}, RowsByThreads{epilogue},
                                                       {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_tcgen05_nvfp4_192, 288, 206960, TENSOR_MAP x, TENSOR_MAP w, const void* x_blocks,
              const void* w_blocks, OPTIONAL const void* bias, OPTIONAL const float* residual, void* y, uint32_t rows,
              uint32_t columns, uint32_t depth, uint32_t bias_format, uint32_t activation, uint32_t output_format,
              uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_tcgen05<Way<Tcgen05Format::nvfp4, 1, 192, 4>>({x, w, x_blocks, w_blocks}, RowsByThreads{epilogue},
                                                       {rows, columns, depth, splits, split_depth});
}
