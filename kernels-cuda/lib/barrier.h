// Barriers of some warps of a block, known by number: 1 to 15, as __syncthreads is number 0. `threads` is a multiple of
// 32 and the same for all that come; the barrier is free for others when they have gone on.
#pragma once
#include "kernel.h"

#ifdef __CUDACC__
DEVICE void barrier_sync(uint32_t number, uint32_t threads) {
  asm volatile("barrier.cta.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}
#else
inline void barrier_sync(uint32_t number, uint32_t threads, simt::Site site = simt::Site::current()) {
  simt::runtime->barrier_sync(simt::this_thread(), number, threads, site);
}
#endif
