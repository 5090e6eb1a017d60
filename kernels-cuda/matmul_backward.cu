// Gradients of matmul on the tensor core tiles of lib/mma_tile.h. The operands are the forward product's with other
// indices along memory; nothing is transposed in memory, and no sum is split between blocks.
//
// 4,096 rows of 4,096 by 4,096 weights: 137 GFLOP each; lib/mma_tile.h says why 165 (f32) to 247 TFLOP/s, 0.83 to
// 0.56 ms, are the limit. Memory once: 168 MB (bf16) to 268 MB, 35 to 56 us at 4.8 TB/s.
#include "lib/mma_tile.h"

// dx[t,k] = sum over n of dy[t,n] w[n,k].
template <class Format>
DEVICE void backward_input(const float* dy, const void* w, float* dx, uint32_t rows, uint32_t width, uint32_t depth) {
  const uint32_t across = (rows + MMA_TILE - 1) / MMA_TILE;
  const MmaColumns<Format> left = {{w, width, depth}};
  const MmaRows<PartsF32> right = {{dy, rows, width}};
  mma_product(left, right, blockIdx.x / across * MMA_TILE, blockIdx.x % across * MMA_TILE, 0, width,
              [&](uint32_t k, uint32_t t, float sum) { dx[static_cast<uint64_t>(t) * depth + k] = sum; });
}

KERNEL(matmul_backward_input_f32, 128, const float* dy, const void* w, float* dx, uint32_t rows, uint32_t width,
       uint32_t depth) {
  backward_input<PartsF32>(dy, w, dx, rows, width, depth);
}

KERNEL(matmul_backward_input_f16, 128, const float* dy, const void* w, float* dx, uint32_t rows, uint32_t width,
       uint32_t depth) {
  backward_input<PartsF16>(dy, w, dx, rows, width, depth);
}

KERNEL(matmul_backward_input_bf16, 128, const float* dy, const void* w, float* dx, uint32_t rows, uint32_t width,
       uint32_t depth) {
  backward_input<PartsBF16>(dy, w, dx, rows, width, depth);
}

// dw[n,k] = accumulator[n,k] + sum over t of dy[t,n] x[t,k], in place.
KERNEL(matmul_backward_weight, 128, float* accumulator, const float* dy, const float* x, uint32_t rows,
       uint32_t width, uint32_t depth) {
  const uint32_t across = (width + MMA_TILE - 1) / MMA_TILE;
  const MmaColumns<PartsF32> left = {{x, rows, depth}}, right = {{dy, rows, width}};
  mma_product(left, right, blockIdx.x / across * MMA_TILE, blockIdx.x % across * MMA_TILE, 0, rows,
              [&](uint32_t k, uint32_t n, float sum) { accumulator[static_cast<uint64_t>(n) * depth + k] += sum; });
}
