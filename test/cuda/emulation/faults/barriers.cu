// Faults with barriers, each beside its correct twin.
#include "lib/kernel.h"

// Each thread takes its neighbour's value.
KERNEL(no_barrier_before_read, 64, const float* x, float* y, uint32_t n) {
  SHARED(tile, float[64]);
  const uint32_t t = threadIdx.x, base = blockIdx.x * 64;
  tile[t] = x[base + t];
  y[base + t] = tile[(t + 1) % 64];
}
KERNEL(no_barrier_before_read_fixed, 64, const float* x, float* y, uint32_t n) {
  SHARED(tile, float[64]);
  const uint32_t t = threadIdx.x, base = blockIdx.x * 64;
  tile[t] = x[base + t];
  __syncthreads();
  y[base + t] = tile[(t + 1) % 64];
}

// The second round overwrites what the first is still read from.
KERNEL(no_barrier_after_read, 64, const float* x, float* y, uint32_t n) {
  SHARED(tile, float[64]);
  const uint32_t t = threadIdx.x;
  float sum = 0;
  for (uint32_t base = 0; base < n; base += 64) {
    tile[t] = x[base + t];
    __syncthreads();
    sum += tile[63 - t];
  }
  y[t] = sum;
}
KERNEL(no_barrier_after_read_fixed, 64, const float* x, float* y, uint32_t n) {
  SHARED(tile, float[64]);
  const uint32_t t = threadIdx.x;
  float sum = 0;
  for (uint32_t base = 0; base < n; base += 64) {
    tile[t] = x[base + t];
    __syncthreads();
    sum += tile[63 - t];
    __syncthreads();
  }
  y[t] = sum;
}

KERNEL(barrier_in_branch, 64, const float* x, float* y, uint32_t n) {
  SHARED(first, float[1]);
  const uint32_t t = threadIdx.x;
  if (t < 32) {
    if (t == 0) first[0] = x[0];
    __syncthreads();
  }
  y[t] = t < 32 ? first[0] : 0.0f;
}
KERNEL(barrier_in_branch_fixed, 64, const float* x, float* y, uint32_t n) {
  SHARED(first, float[1]);
  const uint32_t t = threadIdx.x;
  if (t == 0) first[0] = x[0];
  __syncthreads();
  y[t] = t < 32 ? first[0] : 0.0f;
}

// Both halves reach a barrier, but not the same one.
KERNEL(two_barriers, 64, const float* x, float* y, uint32_t n) {
  const uint32_t t = threadIdx.x;
  y[t] = x[t];
  if (t < 32) {
    __syncthreads();
    y[t] += y[t + 32];
  } else {
    __syncthreads();
  }
}
KERNEL(two_barriers_fixed, 64, const float* x, float* y, uint32_t n) {
  const uint32_t t = threadIdx.x;
  y[t] = x[t];
  __syncthreads();
  if (t < 32) y[t] += y[t + 32];
}

KERNEL(return_before_barrier, 64, const float* x, float* y, uint32_t n) {
  SHARED(tile, float[64]);
  const uint32_t t = threadIdx.x;
  if (t >= 40) return;
  tile[t] = x[t];
  __syncthreads();
  y[t] = tile[39 - t];
}
KERNEL(return_before_barrier_fixed, 64, const float* x, float* y, uint32_t n) {
  SHARED(tile, float[64]);
  const uint32_t t = threadIdx.x;
  if (t < 40) tile[t] = x[t];
  __syncthreads();
  if (t < 40) y[t] = tile[39 - t];
}

// Some threads go round the loop once more.
KERNEL(barrier_in_uneven_loop, 64, const float* x, float* y, uint32_t n) {
  const uint32_t t = threadIdx.x;
  for (uint32_t i = t; i < 96; i += 64) {
    y[i] = x[i];
    __syncthreads();
  }
}
KERNEL(barrier_in_uneven_loop_fixed, 64, const float* x, float* y, uint32_t n) {
  const uint32_t t = threadIdx.x;
  for (uint32_t base = 0; base < 96; base += 64) {
    if (base + t < 96) y[base + t] = x[base + t];
    __syncthreads();
  }
}

// The neighbour may be in another warp.
KERNEL(syncwarp_for_syncthreads, 128, const float* x, float* y, uint32_t n) {
  SHARED(tile, float[128]);
  const uint32_t t = threadIdx.x;
  tile[t] = x[t];
  __syncwarp();
  y[t] = tile[127 - t];
}
KERNEL(syncwarp_for_syncthreads_fixed, 128, const float* x, float* y, uint32_t n) {
  SHARED(tile, float[128]);
  const uint32_t t = threadIdx.x;
  tile[t] = x[t];
  __syncthreads();
  y[t] = tile[127 - t];
}
