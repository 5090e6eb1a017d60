// matmul with x and w both in e4m3_128, on Hopper: y = activation(x w^T + bias) + residual; the plain ones without
// anything behind the sum, or added to what is there, as the gradient of a weight is.
#include "lib/matmul_fp8.h"

KERNEL_CLUSTER(matmul_fp8_2x128, 384, 189520, 2, TENSOR_MAP x, TENSOR_MAP w, const void* x_blocks,
               const void* w_blocks, OPTIONAL const void* bias, OPTIONAL const float* residual, void* y,
               uint32_t x_rows, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t bias_format,
               uint32_t activation, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_fp8<5, 2>(x, w, BlockScales(x_blocks, x_rows, depth), BlockScales(w_blocks, columns, depth),
                   ByThreads{epilogue}, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_fp8_128, 384, 189520, TENSOR_MAP x, TENSOR_MAP w, const void* x_blocks, const void* w_blocks,
              OPTIONAL const void* bias, OPTIONAL const float* residual, void* y, uint32_t x_rows, uint32_t rows,
              uint32_t columns, uint32_t depth, uint32_t bias_format, uint32_t activation, uint32_t output_format,
              uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_fp8<5, 1>(x, w, BlockScales(x_blocks, x_rows, depth), BlockScales(w_blocks, columns, depth),
                   ByThreads{epilogue}, {rows, columns, depth, splits, split_depth});
}

KERNEL_CLUSTER(matmul_fp8_plain_2x128, 384, 168000, 2, TENSOR_MAP x, TENSOR_MAP w, const void* x_blocks,
               const void* w_blocks, TENSOR_MAP y, uint32_t x_rows, uint32_t rows, uint32_t columns, uint32_t depth,
               uint32_t output_format, uint32_t accumulate, uint32_t splits, uint32_t split_depth) {
  const ByBoxes boxes(y, output_format, accumulate);
  matmul_fp8<4, 2>(x, w, BlockScales(x_blocks, x_rows, depth), BlockScales(w_blocks, columns, depth), boxes,
                   {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_fp8_plain_128, 384, 168000, TENSOR_MAP x, TENSOR_MAP w, const void* x_blocks, const void* w_blocks,
              TENSOR_MAP y, uint32_t x_rows, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t output_format,
              uint32_t accumulate, uint32_t splits, uint32_t split_depth) {
  const ByBoxes boxes(y, output_format, accumulate);
  matmul_fp8<4, 1>(x, w, BlockScales(x_blocks, x_rows, depth), BlockScales(w_blocks, columns, depth), boxes,
                   {rows, columns, depth, splits, split_depth});
}
