// Quantized weights as an operand of lib/mma_tile.h: quants are whole numbers up to 128 and so one bf16 part, and the
// scale of a block of 32 is applied to the sum over it.
#pragma once
#include "mma_tile.h"

// The upper halves of two words, the first in the lower half: two f32 that are bf16 numbers.
DEVICE uint32_t pack_upper(uint32_t low, uint32_t high) {
#ifdef __CUDACC__
  return __byte_perm(low, high, 0x7632);
#else
  return low >> 16 | (high & 0xffff0000u);
#endif
}

// Planar blocks (lib/storage.h) of quants of BITS bits; each thread takes one of the f16 scales.
template <uint32_t BITS>
struct MmaBlocks {
  static constexpr uint32_t PARTS = 1, ELEMENTS = 128 / BITS, LOADS = MMA_TILE * MMA_CHUNK / ELEMENTS / MMA_THREADS;
  static_assert(MMA_TILE * MMA_CHUNK / MMA_GROUP == MMA_THREADS);
  struct Shared {
    MmaOperand part[PARTS];
    float scales[MMA_TILE][MMA_CHUNK / MMA_GROUP];
  };
  const void* data;
  uint32_t rows, width;
  uint4 raw[LOADS];
  uint32_t raw_scale;

  DEVICE uint32_t end() const { return rows; }
  DEVICE static uint32_t row(uint32_t i) { return (i * MMA_THREADS + threadIdx.x) / (MMA_CHUNK / ELEMENTS); }
  DEVICE static uint32_t k(uint32_t) { return threadIdx.x % (MMA_CHUNK / ELEMENTS) * ELEMENTS; }

  DEVICE void fetch(uint32_t first, uint32_t k_first, uint32_t k_end) {
    const uint64_t start = static_cast<uint64_t>(first) * width + k_first;
#pragma unroll
    for (uint32_t i = 0; i < LOADS; i++)
      raw[i] = first + row(i) < rows && k_first + k(i) < k_end
                 ? static_cast<const uint4*>(data)[(start + static_cast<uint64_t>(row(i)) * width + k(i)) / ELEMENTS]
                 : make_uint4(0, 0, 0, 0);
    const uint32_t r = threadIdx.x / 2, block = threadIdx.x % 2;
    const uint8_t* scales = static_cast<const uint8_t*>(data) + static_cast<uint64_t>(rows) * width * BITS / 8;
    raw_scale = first + r < rows && k_first + block * MMA_GROUP < k_end
                  ? reinterpret_cast<const uint16_t*>(
                      scales)[(start + static_cast<uint64_t>(r) * width) / MMA_GROUP + block]
                  : 0;
  }

  // Quants i and i + 1 of a word as bf16: the f32 of bits 0x4b000000 + u is 2^23 + u, its distance from 2^23 + zero
  // exact.
  DEVICE static uint32_t pair(uint32_t word, uint32_t i) {
    constexpr uint32_t MASK = (1u << BITS) - 1;
    constexpr float ZERO = 8388608.0f + static_cast<float>(1u << (BITS - 1));
    return pack_upper(bits_of(float_of(0x4b000000u | (word >> (BITS * i) & MASK)) - ZERO),
                      bits_of(float_of(0x4b000000u | (word >> (BITS * (i + 1)) & MASK)) - ZERO));
  }

  DEVICE void put(Shared& shared) const {
    shared.scales[threadIdx.x / 2][threadIdx.x % 2] = f16_to_f32(raw_scale);
#pragma unroll
    for (uint32_t i = 0; i < LOADS; i++) {
      // int8 quants become unsigned ones from a zero of 128, which 4-bit ones (of 8) are.
      constexpr uint32_t SIGNS = BITS == 8 ? 0x80808080u : 0, IN_WORD = 32 / BITS;
      const uint32_t word[4] = {raw[i].x ^ SIGNS, raw[i].y ^ SIGNS, raw[i].z ^ SIGNS, raw[i].w ^ SIGNS};
#pragma unroll
      for (uint32_t e = 0; e < ELEMENTS; e += 8)
        *reinterpret_cast<uint4*>(&shared.part[0][row(i)][mma_word(row(i), k(i) + e)]) = make_uint4(
          pair(word[e / IN_WORD], e % IN_WORD), pair(word[(e + 2) / IN_WORD], (e + 2) % IN_WORD),
          pair(word[(e + 4) / IN_WORD], (e + 4) % IN_WORD), pair(word[(e + 6) / IN_WORD], (e + 6) % IN_WORD));
    }
  }

  DEVICE static float scale(const Shared& shared, uint32_t r, uint32_t group) { return shared.scales[r][group]; }
};
