// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011); the same stream as
// src/tensor/philox.ts.
#pragma once
#include "kernel.h"

DEVICE uint4 philox(uint4 counter, uint2 key) {
  for (uint32_t round = 0; round < 10; round++) {
    const uint64_t a = static_cast<uint64_t>(counter.x) * 0xd2511f53u;
    const uint64_t b = static_cast<uint64_t>(counter.z) * 0xcd9e8d57u;
    counter = make_uint4(static_cast<uint32_t>(b >> 32) ^ counter.y ^ key.x, static_cast<uint32_t>(b),
                         static_cast<uint32_t>(a >> 32) ^ counter.w ^ key.y, static_cast<uint32_t>(a));
    key = make_uint2(key.x + 0x9e3779b9u, key.y + 0xbb67ae85u);
  }
  return counter;
}

// A u32 as a float in [0, 1) with 24 bits, exact.
DEVICE float uniform_from_bits(uint32_t bits) { return static_cast<float>(bits >> 8) * 0x1p-24f; }
