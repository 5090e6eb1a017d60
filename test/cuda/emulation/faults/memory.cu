// Faults with memory, each beside its correct twin.
#include "lib/kernel.h"

KERNEL(read_past_end, 64, const float* x, float* y, uint32_t n) {
  const uint32_t i = blockIdx.x * 64 + threadIdx.x;
  y[i] = x[i] + x[i + 1];
}
KERNEL(read_past_end_fixed, 64, const float* x, float* y, uint32_t n) {
  const uint32_t i = blockIdx.x * 64 + threadIdx.x;
  y[i] = x[i] + x[i + 1 < n ? i + 1 : i];
}

KERNEL(write_past_end, 64, const float* x, float* y, uint32_t n) {
  const uint32_t i = blockIdx.x * 64 + threadIdx.x;
  y[i + 1] = x[i];
}
KERNEL(write_past_end_fixed, 64, const float* x, float* y, uint32_t n) {
  const uint32_t i = blockIdx.x * 64 + threadIdx.x;
  y[(i + 1) % n] = x[i];
}

KERNEL(read_far_before_start, 64, const float* x, float* y, uint32_t n) {
  const uint32_t i = blockIdx.x * 64 + threadIdx.x;
  y[i] = x[static_cast<int32_t>(i) - 1024];
}
KERNEL(read_far_before_start_fixed, 64, const float* x, float* y, uint32_t n) {
  const uint32_t i = blockIdx.x * 64 + threadIdx.x;
  y[i] = x[i];
}

KERNEL(read_before_start, 64, const float* x, float* y, uint32_t n) {
  const int32_t i = static_cast<int32_t>(blockIdx.x * 64 + threadIdx.x);
  y[i] = x[i - 1];
}
KERNEL(read_before_start_fixed, 64, const float* x, float* y, uint32_t n) {
  const int32_t i = static_cast<int32_t>(blockIdx.x * 64 + threadIdx.x);
  y[i] = i > 0 ? x[i - 1] : 0.0f;
}

KERNEL(write_before_start, 64, const float* x, float* y, uint32_t n) {
  const int32_t i = static_cast<int32_t>(blockIdx.x * 64 + threadIdx.x);
  y[i - 1] = x[i];
  y[i] = x[i];
}
KERNEL(write_before_start_fixed, 64, const float* x, float* y, uint32_t n) {
  const int32_t i = static_cast<int32_t>(blockIdx.x * 64 + threadIdx.x);
  y[i] = x[i];
}

KERNEL(shared_past_end, 64, const float* x, float* y, uint32_t n) {
  SHARED(tile, float[64]);
  const uint32_t t = threadIdx.x;
  tile[t] = x[t];
  __syncthreads();
  y[t] = tile[t + 1];
}
KERNEL(shared_past_end_fixed, 64, const float* x, float* y, uint32_t n) {
  SHARED(tile, float[64]);
  const uint32_t t = threadIdx.x;
  tile[t] = x[t];
  __syncthreads();
  y[t] = tile[(t + 1) % 64];
}

KERNEL(shared_write_past_end, 64, const float* x, float* y, uint32_t n) {
  SHARED(tile, float[60]);
  const uint32_t t = threadIdx.x;
  tile[t] = x[t];
  __syncthreads();
  y[t] = tile[t % 32];
}
KERNEL(shared_write_past_end_fixed, 64, const float* x, float* y, uint32_t n) {
  SHARED(tile, float[64]);
  const uint32_t t = threadIdx.x;
  tile[t] = x[t];
  __syncthreads();
  y[t] = tile[t % 32];
}

KERNEL(too_much_shared, 64, const float* x, float* y, uint32_t n) {
  SHARED(large, float[8192]);
  SHARED(more, float[4608]);
  const uint32_t t = threadIdx.x;
  large[t] = more[t] = x[t];
  y[t] = large[t];
}
KERNEL(too_much_shared_fixed, 64, const float* x, float* y, uint32_t n) {
  SHARED(large, float[8192]);
  SHARED(more, float[4096]);
  const uint32_t t = threadIdx.x;
  large[t] = more[t] = x[t];
  y[t] = large[t];
}

KERNEL(misaligned_vector, 16, const float* x, float* y, uint32_t n) {
  const float4 v = *reinterpret_cast<const float4*>(x + 2 * threadIdx.x);
  y[threadIdx.x] = v.x + v.y + v.z + v.w;
}
KERNEL(misaligned_vector_fixed, 16, const float* x, float* y, uint32_t n) {
  const float4 v = *reinterpret_cast<const float4*>(x + 4 * threadIdx.x);
  y[threadIdx.x] = v.x + v.y + v.z + v.w;
}

KERNEL(uninitialised_shared, 64, const float* x, float* y, uint32_t n) {
  SHARED(sums, float[8]);
  const uint32_t t = threadIdx.x;
  if (t < 4) sums[t] = x[t];
  __syncthreads();
  y[t] = sums[t % 8];
}
KERNEL(uninitialised_shared_fixed, 64, const float* x, float* y, uint32_t n) {
  SHARED(sums, float[8]);
  const uint32_t t = threadIdx.x;
  if (t < 8) sums[t] = x[t];
  __syncthreads();
  y[t] = sums[t % 8];
}

// Adds to an output that nothing has written.
KERNEL(uninitialised_global, 64, const float* x, float* y, uint32_t n) {
  const uint32_t i = blockIdx.x * 64 + threadIdx.x;
  y[i] += x[i];
}
KERNEL(uninitialised_global_fixed, 64, const float* x, float* y, uint32_t n) {
  const uint32_t i = blockIdx.x * 64 + threadIdx.x;
  y[i] = x[i];
}

// Takes the tensor behind x for x: both have n elements.
KERNEL(offset_by_a_tensor, 64, const float* x, float* y, uint32_t n) {
  const uint32_t i = blockIdx.x * 64 + threadIdx.x;
  y[i] = x[n + i];
}
KERNEL(offset_by_a_tensor_fixed, 64, const float* x, float* y, uint32_t n) {
  const uint32_t i = blockIdx.x * 64 + threadIdx.x;
  y[i] = x[i];
}

KERNEL(signed_overflow, 64, const float* x, float* y, uint32_t n) {
  const int32_t i = static_cast<int32_t>(threadIdx.x);
  y[i] = static_cast<float>((i * 100000000) / 3) + x[i];
}
KERNEL(signed_overflow_fixed, 64, const float* x, float* y, uint32_t n) {
  const int32_t i = static_cast<int32_t>(threadIdx.x);
  y[i] = static_cast<float>(i * int64_t{100000000} / 3) + x[i];
}

KERNEL(shift_too_far, 64, const float* x, float* y, uint32_t n) {
  y[threadIdx.x] = x[threadIdx.x] + static_cast<float>(n >> threadIdx.x);
}
KERNEL(shift_too_far_fixed, 64, const float* x, float* y, uint32_t n) {
  y[threadIdx.x] = x[threadIdx.x] + static_cast<float>(n >> threadIdx.x % 32);
}

KERNEL(division_by_zero, 64, const float* x, float* y, uint32_t n) {
  y[threadIdx.x] = x[threadIdx.x] + static_cast<float>(n / (threadIdx.x - 5));
}
KERNEL(division_by_zero_fixed, 64, const float* x, float* y, uint32_t n) {
  y[threadIdx.x] = x[threadIdx.x] + static_cast<float>(n / (threadIdx.x + 5));
}
