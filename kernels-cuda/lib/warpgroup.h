// What a warpgroup, four warps from a multiple of four on, does as one.
#pragma once
#include "kernel.h"

// Leaves each thread of the calling warpgroup `COUNT` registers, giving the others back to the block, or waits until
// the block has as many to take. A block starts with what KERNEL_SHARED's threads leave: 65,536 over its threads,
// rounded down to a multiple of 8.
template <uint32_t COUNT>
DEVICE void registers_give_back() {
  static_assert(COUNT % 8 == 0 && COUNT >= 24 && COUNT <= 256);
#ifdef __CUDACC__
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
#endif
}

template <uint32_t COUNT>
DEVICE void registers_take() {
  static_assert(COUNT % 8 == 0 && COUNT >= 24 && COUNT <= 256);
#ifdef __CUDACC__
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
#endif
}
