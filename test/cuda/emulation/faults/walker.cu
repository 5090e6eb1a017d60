// Faults in what a walker is made of, each beside its correct twin: counters that blocks wait for, barriers of some
// threads, and memory that is used again.
#include "lib/barrier.h"
#include "lib/progress.h"
#include "lib/tma.h"

// Block 1 takes what block 0 has made. The counter lies in x, where 1.0f is before anybody adds.
constexpr uint32_t START = 0x3f800000;
template <bool ADDS, bool WAITS>
DEVICE void hand_over(const float* x, float* y) {
  uint32_t* counter = const_cast<uint32_t*>(reinterpret_cast<const uint32_t*>(x));
  const uint32_t t = threadIdx.x;
  if (blockIdx.x == 0) {
    y[t] = x[32 + t];
    __syncthreads();
    if (ADDS && t == 0) progress_add(counter, 1);
  } else {
    if (WAITS && t == 0) progress_wait(counter, START + 1);
    __syncthreads();
    y[32 + t] = y[t];
  }
}
KERNEL(no_wait_for_progress, 32, const float* x, float* y, uint32_t n) { hand_over<true, false>(x, y); }
KERNEL(no_wait_for_progress_fixed, 32, const float* x, float* y, uint32_t n) { hand_over<true, true>(x, y); }
KERNEL(no_progress, 32, const float* x, float* y, uint32_t n) { hand_over<false, true>(x, y); }
KERNEL(no_progress_fixed, 32, const float* x, float* y, uint32_t n) { hand_over<true, true>(x, y); }

// The second warp of three takes what the first has.
template <bool BOTH, uint32_t OF_SECOND>
DEVICE void through_barrier(const float* x, float* y) {
  SHARED(value, float[32]);
  const uint32_t t = threadIdx.x;
  if (t < 32) {
    value[t] = x[t];
    barrier_sync(1, 64);
  } else if (t < 64) {
    if (BOTH) barrier_sync(1, OF_SECOND);
    y[t] = value[t - 32];
  }
}
KERNEL(barrier_of_half, 96, const float* x, float* y, uint32_t n) { through_barrier<false, 64>(x, y); }
KERNEL(barrier_of_half_fixed, 96, const float* x, float* y, uint32_t n) { through_barrier<true, 64>(x, y); }
KERNEL(barrier_of_two_sizes, 96, const float* x, float* y, uint32_t n) { through_barrier<true, 96>(x, y); }
KERNEL(barrier_of_two_sizes_fixed, 96, const float* x, float* y, uint32_t n) { through_barrier<true, 64>(x, y); }

// An mbarrier where another one was.
template <bool INVALIDATES>
DEVICE void barriers_in_turn(float* y) {
  DYNAMIC_SHARED(barrier, Mbarrier);
  for (uint32_t i = 0; i < 2; i++) {
    if (threadIdx.x == 0) {
      mbarrier_init(barrier, 1);
      mbarrier_arrive(barrier);
    }
    __syncthreads();
    mbarrier_wait(barrier, 0);
    __syncthreads();
    if (INVALIDATES && threadIdx.x == 0) mbarrier_invalidate(barrier);
  }
  y[threadIdx.x] = 1;
}
KERNEL_SHARED(barrier_over_another, 128, 1024, TENSOR_MAP map, float* y, uint32_t n) { barriers_in_turn<false>(y); }
KERNEL_SHARED(barrier_over_another_fixed, 128, 1024, TENSOR_MAP map, float* y, uint32_t n) {
  barriers_in_turn<true>(y);
}
