// Quants as pairs of bf16 numbers, the operands of tensor cores; all are exact in bf16, scales are applied to sums.
#pragma once
#include "mma_blocks.h"

// A difference of bf16 pairs.
DEVICE uint32_t bf16_pair_minus(uint32_t a, uint32_t b) {
#ifdef __CUDACC__
  uint32_t difference;
  asm("sub.rn.bf16x2 %0, %1, %2;" : "=r"(difference) : "r"(a), "r"(b));
  return difference;
#else
  return bf16_pair(float_of(a << 16) - float_of(b << 16), float_of(a & 0xffff0000u) - float_of(b & 0xffff0000u));
#endif
}

// Quants of 4 bits less their zero of 8, in bits 0 to 3 and 16 to 19 of `spread`, whatever the others are: the bf16 of
// bits 0x4300 + u is 128 + u.
DEVICE uint32_t q4_0_pair(uint32_t spread) {
  return bf16_pair_minus((spread & 0x000f000fu) | 0x43004300u, 0x43084308u);
}

// Two int8 in the lower half of `bytes`. Their seven lower bits as 128 + u, less 128, or 256 with the bit that counts -128.
DEVICE uint32_t q8_0_pair(uint32_t bytes) {
  const uint32_t spread = (bytes & 0xffu) | (bytes & 0xff00u) << 8;
  return bf16_pair_minus((spread & 0x007f007fu) | 0x43004300u, (spread & 0x00800080u) | 0x43004300u);
}

// Two e4m3 in the lower half of `bytes`.
DEVICE uint32_t e4m3_pair(uint32_t bytes) {
  const float2 quants = e4m3_pair_to_f32(bytes & 0xffffu);
  return pack_upper(bits_of(quants.x), bits_of(quants.y));
}
