// matmul of f32 weights for more than a few rows, and of rows that are not a multiple of four elements: y = activation(
// x w^T + bias) + residual on the f32 tile of lib/tile.h. The reduction is cut into `splits` ranges of `split_depth`
// where the tiles alone would leave multiprocessors idle: then y is [splits, rows, columns] for matmul_join.
//
// 4,096 rows of 4,096 by 4,096 weights: 137 GFLOP, 2.1 ms at 67 TFLOP/s; 201 MB, 42 us at 4.8 TB/s. Arithmetic limits.
// Blocks that run together share a column tile of the weights, so that L2 serves all but the first read.
#include "lib/epilogue.h"
#include "lib/tile.h"

template <class Format>
DEVICE void matmul_tile(const float* x, const void* w, const Epilogue& epilogue, uint32_t rows, uint32_t columns,
                        uint32_t depth, uint32_t splits, uint32_t split_depth) {
  const uint32_t across = (rows + TILE_M - 1) / TILE_M;
  const uint32_t split = blockIdx.x % splits, tile = blockIdx.x / splits;
  const uint32_t first = split * split_depth, end = depth - first < split_depth ? depth : first + split_depth;
  const AlongK<F32> a = {{x, rows, depth}};
  const AlongK<Format> b = {{w, columns, depth}};
  tile_product(a, b, tile % across * TILE_M, tile / across * TILE_N, first, end,
               [&](uint32_t row, uint32_t column, float sum) {
                 if (row < rows && column < columns)
                   epilogue.store(static_cast<uint64_t>(split) * rows + row, column, sum);
               });
}

KERNEL(matmul_tile_f32, 256, const float* x, const void* w, OPTIONAL const void* bias, OPTIONAL const float* residual,
       float* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t bias_format, uint32_t activation,
       uint32_t splits, uint32_t split_depth) {
  matmul_tile<F32>(x, w, {y, columns, bias, bias_format, activation, residual}, rows, columns, depth, splits,
                   split_depth);
}

KERNEL(matmul_tile_f16, 256, const float* x, const void* w, OPTIONAL const void* bias, OPTIONAL const float* residual,
       float* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t bias_format, uint32_t activation,
       uint32_t splits, uint32_t split_depth) {
  matmul_tile<F16>(x, w, {y, columns, bias, bias_format, activation, residual}, rows, columns, depth, splits,
                   split_depth);
}

KERNEL(matmul_tile_bf16, 256, const float* x, const void* w, OPTIONAL const void* bias, OPTIONAL const float* residual,
       float* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t bias_format, uint32_t activation,
       uint32_t splits, uint32_t split_depth) {
  matmul_tile<BF16>(x, w, {y, columns, bias, bias_format, activation, residual}, rows, columns, depth, splits,
                    split_depth);
}
