// What a warpgroup, four warps from a multiple of four on, does as one.
#pragma once
#include "kernel.h"

// Leaves each thread of the calling warpgroup `COUNT` registers, giving the others back to the block, or waits until
// the block has as many to take. A block starts with what KERNEL_SHARED's threads leave: 65,536 over its threads,
// rounded down to a multiple of 8. It never has more than that: with 384 threads, 168 each, its three warpgroups' counts
// come to 504 at most, or a taker waits for ever.
#ifdef __CUDACC__
template <uint32_t COUNT>
DEVICE void registers_give_back() {
  static_assert(COUNT % 8 == 0 && COUNT >= 24 && COUNT <= 256);
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}

template <uint32_t COUNT>
DEVICE void registers_take() {
  static_assert(COUNT % 8 == 0 && COUNT >= 24 && COUNT <= 256);
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}
#else
template <uint32_t COUNT>
void registers_give_back(simt::Site site = simt::Site::current()) {
  static_assert(COUNT % 8 == 0 && COUNT >= 24 && COUNT <= 256);
  simt::runtime->give_registers(simt::this_thread(), COUNT, site);
}

template <uint32_t COUNT>
void registers_take(simt::Site site = simt::Site::current()) {
  static_assert(COUNT % 8 == 0 && COUNT >= 24 && COUNT <= 256);
  simt::runtime->take_registers(simt::this_thread(), COUNT, site);
}
#endif
