// Faults between blocks, launches and copies, each beside its correct twin where the fault is in the kernel.
#include "lib/kernel.h"

// The last block to run decides.
KERNEL(race_between_blocks, 32, const float* x, float* y, uint32_t n) {
  const uint32_t t = threadIdx.x;
  y[t] = x[blockIdx.x * 32 + t];
}
KERNEL(race_between_blocks_fixed, 32, const float* x, float* y, uint32_t n) {
  const uint32_t t = threadIdx.x;
  if (blockIdx.x == 0) y[t] = x[t];
}

// Reads what another block of the same launch writes.
KERNEL(read_of_other_block, 32, const float* x, float* y, uint32_t n) {
  const uint32_t i = blockIdx.x * 32 + threadIdx.x;
  y[i] = x[i];
  if (blockIdx.x > 0) y[i] += y[i - 32];
}
KERNEL(read_of_other_block_fixed, 32, const float* x, float* y, uint32_t n) {
  const uint32_t i = blockIdx.x * 32 + threadIdx.x;
  y[i] = x[i];
  if (blockIdx.x > 0) y[i] += x[i - 32];
}

// Compaction by an atomic counter: each place depends on who came first.
KERNEL(order_of_atomics, 64, const float* x, float* y, uint32_t n) {
  SHARED(count, uint32_t[1]);
  const uint32_t t = threadIdx.x;
  if (t == 0) count[0] = 0;
  __syncthreads();
  if (x[t] > 3.0f) y[atomicAdd(&count[0], 1)] = x[t];
}
KERNEL(order_of_atomics_fixed, 64, const float* x, float* y, uint32_t n) {
  SHARED(counts, uint32_t[2]);
  const uint32_t t = threadIdx.x, votes = __ballot_sync(FULL_WARP, x[t] > 3.0f);
  if (t % 32 == 0) counts[t / 32] = static_cast<uint32_t>(__popc(votes));
  __syncthreads();
  const uint32_t before = static_cast<uint32_t>(__popc(votes & ((1u << t % 32) - 1)));
  if (x[t] > 3.0f) y[before + (t >= 32 ? counts[0] : 0)] = x[t];
}

// Thread 0 waits for a flag that is never raised.
KERNEL(flag_never_raised, 32, const float* x, float* y, uint32_t n) {
  uint32_t* flag = reinterpret_cast<uint32_t*>(y);
  if (threadIdx.x == 0) simt::wait_until([=] { return simt::load_acquire(flag) == 1; });
  __syncthreads();
  y[threadIdx.x] = x[threadIdx.x];
}
KERNEL(flag_never_raised_fixed, 32, const float* x, float* y, uint32_t n) {
  uint32_t* flag = reinterpret_cast<uint32_t*>(y);
  if (threadIdx.x == 31) simt::store_release(flag, 1u);
  if (threadIdx.x == 0) simt::wait_until([=] { return simt::load_acquire(flag) == 1; });
  __syncthreads();
  y[threadIdx.x] = x[threadIdx.x];
}

// Spins without letting others run.
KERNEL(endless_loop, 32, const float* x, float* y, uint32_t n) {
  volatile uint32_t* flag = reinterpret_cast<volatile uint32_t*>(y);
  while (*flag != 1) {
  }
  y[threadIdx.x] = x[threadIdx.x];
}
KERNEL(endless_loop_fixed, 32, const float* x, float* y, uint32_t n) { y[threadIdx.x] = x[threadIdx.x]; }

// Waits for a block that can't be resident beside all those that wait for it.
KERNEL(waits_beyond_residency, 1024, const float* x, float* y, uint32_t n) {
  uint32_t* flag = reinterpret_cast<uint32_t*>(y) + n / 2;
  if (blockIdx.x == gridDim.x - 1) simt::store_release(flag, 1u);
  else if (threadIdx.x == 0) simt::wait_until([=] { return simt::load_acquire(flag) == 1; });
}
KERNEL(waits_beyond_residency_fixed, 1024, const float* x, float* y, uint32_t n) {
  uint32_t* flag = reinterpret_cast<uint32_t*>(y) + n / 2;
  if (blockIdx.x == 0) simt::store_release(flag, 1u);
  else if (threadIdx.x == 0) simt::wait_until([=] { return simt::load_acquire(flag) == 1; });
}

KERNEL(scale, 64, const float* x, float* y, float factor) {
  const uint32_t i = blockIdx.x * 64 + threadIdx.x;
  y[i] = factor * x[i];
}
KERNEL(add, 64, const float* a, const float* b, float* y) {
  const uint32_t i = blockIdx.x * 64 + threadIdx.x;
  y[i] = a[i] + b[i];
}
