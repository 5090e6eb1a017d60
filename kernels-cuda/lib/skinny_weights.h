// Weights as the left operand of mma.sync, from memory to registers (kernels-cuda/matmul_skinny.cu).
#pragma once
#include "quant_pairs.h"

// Formats of w. Of a chunk a lane loads 16 bytes a row, UNITS times eight neighbours along k; the four lanes of a row
// have 32 k in common for each unit. `spread` gives each its share of every unit, `offset` says which k that is,
// `pairs` makes a unit's four pairs of bf16 numbers, those of elements first(i) and second(i), and `scale` what a
// unit's sums are multiplied by, from what fetch_scale loaded for the chunk that begins `at` loads from the start.
template <class Parts>
struct Floats {
  static constexpr uint32_t UNITS = 1, PARTS = Parts::PARTS, SPAN = 8;
  DEVICE static void spread(uint32_t (&)[4]) {}
  DEVICE static uint32_t offset(uint32_t, uint32_t t) { return 8 * t; }
  DEVICE static uint32_t first(uint32_t i) { return 2 * i; }
  DEVICE static uint32_t second(uint32_t i) { return 2 * i + 1; }
  DEVICE static void pairs(uint32_t (&pair)[PARTS][4], const uint32_t (&word)[4], uint32_t) {
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
      uint32_t part[PARTS];
      Parts::split(part, word[i] & 0xffffu, word[i] >> 16);
#pragma unroll
      for (uint32_t p = 0; p < PARTS; p++) pair[p][i] = part[p];
    }
  }
  DEVICE static float fetch_scale(const void*, uint64_t, uint32_t, uint32_t) { return 1.0f; }
  DEVICE static float scale(float, uint32_t) { return 1.0f; }
};

// Words of lanes that differ in bit BIT of their number change places with words that differ so.
template <uint32_t BIT>
DEVICE void exchange_words(uint32_t (&word)[4]) {
  const bool upper = (threadIdx.x & BIT) != 0;
#pragma unroll
  for (uint32_t i = 0; i < 4; i++) {
    if (i & BIT) continue;
    const uint32_t kept = upper ? word[i + BIT] : word[i], given = upper ? word[i] : word[i + BIT];
    const uint32_t taken = __shfl_xor_sync(FULL_WARP, given, BIT);
    word[i] = upper ? taken : kept;
    word[i + BIT] = upper ? kept : taken;
  }
}

// A lane loads half a block of 32; lanes 2 and 3 of a row have the second block.
struct Quants8 {
  static constexpr uint32_t UNITS = 2, PARTS = 1, SPAN = 16;
  DEVICE static void spread(uint32_t (&word)[4]) { exchange_words<2>(word); }
  DEVICE static uint32_t offset(uint32_t unit, uint32_t t) { return 32 * unit + t % 2 * 16 + t / 2 * 8; }
  DEVICE static uint32_t first(uint32_t i) { return 2 * i; }
  DEVICE static uint32_t second(uint32_t i) { return 2 * i + 1; }
  DEVICE static void pairs(uint32_t (&pair)[PARTS][4], const uint32_t (&word)[4], uint32_t unit) {
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) pair[0][i] = q8_0_pair(word[2 * unit + i / 2] >> i % 2 * 16);
  }
  DEVICE static float fetch_scale(const void* w, uint64_t count, uint32_t at, uint32_t t) {
    return Q8_0::scale(w, count, at / 2 + t % 2);
  }
  DEVICE static float scale(float own, uint32_t unit) {
    return __shfl_sync(FULL_WARP, own, threadIdx.x % 32 / 4 * 4 + unit);
  }
};

// A lane loads a block of 32. Quants i and i + 4 of a word become bf16 numbers 128 + quant in one step.
struct Quants4 {
  static constexpr uint32_t UNITS = 4, PARTS = 1, SPAN = 32;
  DEVICE static void spread(uint32_t (&word)[4]) {
    exchange_words<2>(word);
    exchange_words<1>(word);
  }
  DEVICE static uint32_t offset(uint32_t unit, uint32_t t) { return 32 * unit + 8 * t; }
  DEVICE static uint32_t first(uint32_t i) { return i; }
  DEVICE static uint32_t second(uint32_t i) { return i + 4; }
  DEVICE static void pairs(uint32_t (&pair)[PARTS][4], const uint32_t (&word)[4], uint32_t unit) {
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) pair[0][i] = q4_0_pair(word[unit] >> (4 * i));
  }
  DEVICE static float fetch_scale(const void* w, uint64_t count, uint32_t at, uint32_t t) {
    return Q4_0::scale(w, count, at + t);
  }
  DEVICE static float scale(float own, uint32_t unit) { return Quants8::scale(own, unit); }
};

// A lane loads 16 numbers, eight for each unit; the chunk lies in one block of 128.
struct E4M3Quants {
  static constexpr uint32_t UNITS = 2, PARTS = 1, SPAN = 16;
  DEVICE static void spread(uint32_t (&)[4]) {}
  DEVICE static uint32_t offset(uint32_t unit, uint32_t t) { return 16 * t + 8 * unit; }
  DEVICE static uint32_t first(uint32_t i) { return 2 * i; }
  DEVICE static uint32_t second(uint32_t i) { return 2 * i + 1; }
  DEVICE static void pairs(uint32_t (&pair)[PARTS][4], const uint32_t (&word)[4], uint32_t unit) {
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) pair[0][i] = e4m3_pair(word[2 * unit + i / 2] >> i % 2 * 16);
  }
  DEVICE static float fetch_scale(const void* w, uint64_t count, uint32_t at, uint32_t) {
    return E4M3_128::scale(w, count, at / 8);
  }
  DEVICE static float scale(float own, uint32_t) { return own; }
};
