// Faults with warp functions, each beside its correct twin.
#include "lib/kernel.h"

KERNEL(mask_without_caller, 32, const float* x, float* y, uint32_t n) {
  const uint32_t t = threadIdx.x;
  y[t] = __shfl_xor_sync(0xffffu, x[t], 1);
}
KERNEL(mask_without_caller_fixed, 32, const float* x, float* y, uint32_t n) {
  const uint32_t t = threadIdx.x;
  y[t] = __shfl_xor_sync(FULL_WARP, x[t], 1);
}

// Half of the lanes named wait for ever at the barrier.
KERNEL(mask_of_absent_lanes, 64, const float* x, float* y, uint32_t n) {
  const uint32_t t = threadIdx.x;
  float value = x[t];
  if (t % 32 < 16) value += __shfl_xor_sync(FULL_WARP, value, 1);
  __syncthreads();
  y[t] = value;
}
KERNEL(mask_of_absent_lanes_fixed, 64, const float* x, float* y, uint32_t n) {
  const uint32_t t = threadIdx.x;
  float value = x[t];
  if (t % 32 < 16) value += __shfl_xor_sync(0xffffu, value, 1);
  __syncthreads();
  y[t] = value;
}

KERNEL(shuffle_from_exited, 32, const float* x, float* y, uint32_t n) {
  const uint32_t t = threadIdx.x;
  if (t >= 20) return;
  float sum = x[t];
  for (int s = 16; s > 0; s /= 2) sum += __shfl_down_sync(FULL_WARP, sum, static_cast<unsigned>(s));
  y[t] = sum;
}
KERNEL(shuffle_from_exited_fixed, 32, const float* x, float* y, uint32_t n) {
  const uint32_t t = threadIdx.x;
  float sum = t < 20 ? x[t] : 0.0f;
  for (int s = 16; s > 0; s /= 2) sum += __shfl_down_sync(FULL_WARP, sum, static_cast<unsigned>(s));
  if (t < 20) y[t] = sum;
}

KERNEL(shuffle_outside_mask, 32, const float* x, float* y, uint32_t n) {
  const uint32_t t = threadIdx.x;
  if (t < 16) y[t] = __shfl_sync(0xffffu, x[t], 16);
}
KERNEL(shuffle_outside_mask_fixed, 32, const float* x, float* y, uint32_t n) {
  const uint32_t t = threadIdx.x;
  if (t < 16) y[t] = __shfl_sync(0xffffu, x[t], 15);
}

// The last warp of 48 threads has 16 lanes: its reduction takes values from lanes that do not exist.
KERNEL(partial_warp_reduction, 48, const float* x, float* y, uint32_t n) {
  const uint32_t t = threadIdx.x;
  float sum = x[t];
  for (int s = 16; s > 0; s /= 2) sum += __shfl_xor_sync(FULL_WARP, sum, s);
  y[t] = sum;
}
KERNEL(partial_warp_reduction_fixed, 48, const float* x, float* y, uint32_t n) {
  const uint32_t t = threadIdx.x, first = t < 32 ? 16 : 8;
  float sum = x[t];
  for (uint32_t s = first; s > 0; s /= 2)
    sum += __shfl_xor_sync(t < 32 ? FULL_WARP : 0xffffu, sum, static_cast<int>(s));
  y[t] = sum;
}

// Lanes of one mask in different functions.
KERNEL(mixed_functions, 32, const float* x, float* y, uint32_t n) {
  const uint32_t t = threadIdx.x;
  y[t] = t < 16 ? __shfl_sync(FULL_WARP, x[t], 0) : static_cast<float>(__ballot_sync(FULL_WARP, x[t] > 3.0f));
}
KERNEL(mixed_functions_fixed, 32, const float* x, float* y, uint32_t n) {
  const uint32_t t = threadIdx.x;
  const float first = __shfl_sync(FULL_WARP, x[t], 0);
  const float votes = static_cast<float>(__ballot_sync(FULL_WARP, x[t] > 3.0f));
  y[t] = t < 16 ? first : votes;
}

// Lanes of a warp do not run in step.
KERNEL(warp_in_step, 32, const float* x, float* y, uint32_t n) {
  SHARED(tile, float[32]);
  const uint32_t t = threadIdx.x;
  tile[t] = x[t];
  for (uint32_t s = 16; s > 0; s /= 2)
    if (t < s) tile[t] += tile[t + s];
  y[t] = tile[0];
}
KERNEL(warp_in_step_fixed, 32, const float* x, float* y, uint32_t n) {
  SHARED(tile, float[32]);
  const uint32_t t = threadIdx.x;
  tile[t] = x[t];
  __syncwarp();
  for (uint32_t s = 16; s > 0; s /= 2) {
    if (t < s) tile[t] += tile[t + s];
    __syncwarp();
  }
  y[t] = tile[0];
}

KERNEL(odd_shuffle_width, 32, const float* x, float* y, uint32_t n) {
  y[threadIdx.x] = __shfl_down_sync(FULL_WARP, x[threadIdx.x], 1, 12);
}
KERNEL(odd_shuffle_width_fixed, 32, const float* x, float* y, uint32_t n) {
  y[threadIdx.x] = __shfl_down_sync(FULL_WARP, x[threadIdx.x], 1, 16);
}
