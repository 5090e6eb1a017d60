// Tensor core products of bf16 with sums in f32, and how they serve numbers of f32: as sums of bf16 numbers.
#pragma once
#include "storage.h"

// c += a b for a warp's tile, a of 16 x 16 and b of 16 x 8 bf16. With g = lane / 4 and t = lane % 4 (PTX ISA,
// mma.m16n8k16): a holds rows g (words 0 and 2) and g + 8 (1 and 3) at columns 2 t, 2 t + 1 (0 and 1) and eight to the
// right (2 and 3); b rows 2 t, 2 t + 1 (word 0) and eight below (1) of column g; c rows g (0 and 1) and g + 8 (2 and 3)
// of columns 2 t and 2 t + 1. The lower index is in the lower half of a word.
#ifdef __CUDACC__
DEVICE void mma_m16n8k16_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#else
// Products of bf16 are exact in f32; the device sums them in an order and with roundings of its own.
inline void mma_m16n8k16_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  struct Words {
    uint32_t a[4], b[2];
  } of_lane[32];
  const uint32_t lane = threadIdx.x % 32;
  // The lanes meet in the first one's array: all stacks are memory of one process.
  Words* warp = reinterpret_cast<Words*>(__shfl_sync(FULL_WARP, reinterpret_cast<uint64_t>(of_lane), 0));
  std::memcpy(warp[lane].a, a, sizeof a);
  std::memcpy(warp[lane].b, b, sizeof b);
  __syncwarp();
  for (uint32_t k = 0; k < 16; k++) {
    const uint32_t t = k % 8 / 2, word = k / 8, shift = k % 2 * 16;
    for (uint32_t i = 0; i < 4; i++) {
      const uint32_t left = warp[lane / 4 * 4 + t].a[word * 2 + i / 2];
      const uint32_t right = warp[(lane % 4 * 2 + i % 2) * 4 + t].b[word];
      c[i] += bf16_to_f32(left >> shift & 0xffffu) * bf16_to_f32(right >> shift & 0xffffu);
    }
  }
  __syncwarp();
}
#endif

// The upper halves of two words, the first in the lower half: two f32 to bf16, rounded towards zero.
DEVICE uint32_t pack_upper(uint32_t low, uint32_t high) {
#ifdef __CUDACC__
  return __byte_perm(low, high, 0x7632);
#else
  return low >> 16 | (high & 0xffff0000u);
#endif
}

// Two numbers of f32 as sums of three bf16 each: part[0] + part[1] + part[2], falling by at least 2^-7 each. The 24
// bits of a significand are cut eight at a time, so that the sum is exact and no part is larger than the number (rounding
// to nearest could overflow). Exact as long as the last part is not below 2^-133, the smallest bf16: smaller numbers
// than 2^-109 lose bits there, each an absolute error below 2^-133.
DEVICE void split_pair(uint32_t (&part)[3], float x, float y) {
  const uint32_t x0 = bits_of(x), y0 = bits_of(y);
  part[0] = pack_upper(x0, y0);
  const float x_rest = x - float_of(x0 & 0xffff0000u), y_rest = y - float_of(y0 & 0xffff0000u);
  const uint32_t x1 = bits_of(x_rest), y1 = bits_of(y_rest);
  part[1] = pack_upper(x1, y1);
  part[2] = pack_upper(bits_of(x_rest - float_of(x1 & 0xffff0000u)), bits_of(y_rest - float_of(y1 & 0xffff0000u)));
}
