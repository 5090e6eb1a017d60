// What the gradients of attention on tensor cores begin with: delta[t,h] = sum_d dy[t,h,d] y[t,h,d], four neighbours a
// thread, DIM / 4 threads a head. 4 D bytes read for 2 D flops, so memory limits: 4,096 rows of 32 heads of 128 dims
// are 67 MB, 14 us at 4.8 TB/s; neighbouring threads read neighbouring 8 bytes.
#include "lib/kernel.h"
#include "lib/storage.h"

template <class Storage, uint32_t DIM>
DEVICE void backward_delta(const void* dy, const void* y, float* delta, uint32_t count) {
  const uint32_t thread = blockIdx.x * 256 + threadIdx.x, item = thread / (DIM / 4);
  float dot = 0.0f;
  if (item < count) {
    const uint64_t at = 4 * static_cast<uint64_t>(thread);
    const float4 a = Storage::load4(dy, 0, at), b = Storage::load4(y, 0, at);
    dot = a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
  }
#pragma unroll
  for (uint32_t step = DIM / 8; step > 0; step /= 2) dot += __shfl_xor_sync(FULL_WARP, dot, step);
  if (item < count && thread % (DIM / 4) == 0) delta[item] = dot;
}

KERNEL(attention_backward_delta_64_bf16, 256, const void* dy, const void* y, float* delta, uint32_t count) {
  backward_delta<BF16, 64>(dy, y, delta, count);
}

KERNEL(attention_backward_delta_128_bf16, 256, const void* dy, const void* y, float* delta, uint32_t count) {
  backward_delta<BF16, 128>(dy, y, delta, count);
}

KERNEL(attention_backward_delta_64_f16, 256, const void* dy, const void* y, float* delta, uint32_t count) {
  backward_delta<F16, 64>(dy, y, delta, count);
}

KERNEL(attention_backward_delta_128_f16, 256, const void* dy, const void* y, float* delta, uint32_t count) {
  backward_delta<F16, 128>(dy, y, delta, count);
}
