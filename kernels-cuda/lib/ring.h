// A ring of stages in shared memory: which is next, and in which parity of its phases (lib/mbarrier.h).
#pragma once
#include "kernel.h"

template <uint32_t STAGES>
struct Place {
  uint32_t stage = 0, parity = 0;
  DEVICE void advance() {
    if (++stage < STAGES) return;
    stage = 0;
    parity ^= 1;
  }
};
