// A thread's share of a range.
#pragma once
#include "kernel.h"

// f(i) for i = first, first + step, ... below `end`, in this order. Four of them are side by side, so that their
// loads are in flight together: a thread that waits for one load at a time leaves the memory idle.
template <typename Index, typename F>
DEVICE void strided(Index first, Index end, Index step, F f) {
  Index i = first;
  for (; i + 3 * step < end; i += 4 * step)
#pragma unroll
    for (uint32_t next = 0; next < 4; next++) f(i + next * step);
  for (; i < end; i += step) f(i);
}
