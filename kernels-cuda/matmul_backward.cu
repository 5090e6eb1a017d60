// Gradients of matmul on the f32 tile of lib/tile.h. The operands are the forward product's with other indices along
// memory; nothing is transposed in memory, and no element is summed by more than one thread.
//
// 4,096 rows of 4,096 by 4,096 weights: 137 GFLOP each, 2.1 ms at 67 TFLOP/s; 201 MB (268 MB for the weights, whose
// accumulator is read and written), 42 to 56 us at 4.8 TB/s. Arithmetic limits.
#include "lib/tile.h"

// dx[t,k] = sum over n of dy[t,n] w[n,k].
template <class Format>
DEVICE void backward_input(const float* dy, const void* w, float* dx, uint32_t rows, uint32_t width, uint32_t depth) {
  const uint32_t across = (rows + TILE_M - 1) / TILE_M;
  const AlongK<F32> a = {{dy, rows, width}};
  const AlongM<Format> b = {{w, width, depth}};
  tile_product(a, b, blockIdx.x % across * TILE_M, blockIdx.x / across * TILE_N, 0, width,
               [&](uint32_t t, uint32_t k, float sum) {
                 if (t < rows && k < depth) dx[static_cast<uint64_t>(t) * depth + k] = sum;
               });
}

KERNEL(matmul_backward_input_f32, 256, const float* dy, const void* w, float* dx, uint32_t rows, uint32_t width,
       uint32_t depth) {
  backward_input<F32>(dy, w, dx, rows, width, depth);
}

KERNEL(matmul_backward_input_f16, 256, const float* dy, const void* w, float* dx, uint32_t rows, uint32_t width,
       uint32_t depth) {
  backward_input<F16>(dy, w, dx, rows, width, depth);
}

KERNEL(matmul_backward_input_bf16, 256, const float* dy, const void* w, float* dx, uint32_t rows, uint32_t width,
       uint32_t depth) {
  backward_input<BF16>(dy, w, dx, rows, width, depth);
}

// dw[n,k] = accumulator[n,k] + sum over t of dy[t,n] x[t,k], in place.
KERNEL(matmul_backward_weight, 256, float* accumulator, const float* dy, const float* x, uint32_t rows,
       uint32_t width, uint32_t depth) {
  const uint32_t across = (width + TILE_M - 1) / TILE_M;
  const AlongM<F32> a = {{dy, rows, width}};
  const AlongM<F32> b = {{x, rows, depth}};
  tile_product(a, b, blockIdx.x % across * TILE_M, blockIdx.x / across * TILE_N, 0, rows,
               [&](uint32_t n, uint32_t k, float sum) {
                 if (n < width && k < depth) accumulator[static_cast<uint64_t>(n) * depth + k] += sum;
               });
}
