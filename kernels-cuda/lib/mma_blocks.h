// Numbers in blocks as an operand of lib/mma_tile.h: quants have few enough bits to be one bf16 part, and scales are
// applied to the sums over groups.
#pragma once
#include "mma_tile.h"
#include "small_float.h"

// The upper halves of two words, the first in the lower half: two f32 that are bf16 numbers.
DEVICE uint32_t pack_upper(uint32_t low, uint32_t high) {
#ifdef __CUDACC__
  return __byte_perm(low, high, 0x7632);
#else
  return low >> 16 | (high & 0xffff0000u);
#endif
}

// Formats of planar blocks (lib/storage.h, lib/small_float.h) as operands: `Raw` is what a thread fetches of the scales
// of MMA_GROUP elements, `group_scale` what a sum over them is multiplied by, and `pair` gives quants i and i + 1 of a
// word, of block `block` of the group, as exact bf16 numbers.

// Whole numbers from a zero: the f32 of bits 0x4b000000 + u is 2^23 + u, its distance from 2^23 + zero exact. int8
// quants become unsigned ones from a zero of 128, which 4-bit ones (of 8) are.
template <uint32_t QUANT_BITS>
struct MmaIntegers {
  using Raw = uint16_t;
  static constexpr uint32_t BITS = QUANT_BITS, BLOCK = 32;
  DEVICE static Raw raw(const uint8_t* scales, uint64_t element, uint32_t) {
    return reinterpret_cast<const uint16_t*>(scales)[element / BLOCK];
  }
  DEVICE static float group_scale(Raw raw, float) { return f16_to_f32(raw); }
  DEVICE static uint32_t pair(uint32_t word, uint32_t i, Raw, uint32_t) {
    constexpr uint32_t MASK = (1u << BITS) - 1, SIGNS = BITS == 8 ? 0x80808080u : 0;
    constexpr float ZERO = 8388608.0f + static_cast<float>(1u << (BITS - 1));
    return pack_upper(bits_of(float_of(0x4b000000u | ((word ^ SIGNS) >> (BITS * i) & MASK)) - ZERO),
                      bits_of(float_of(0x4b000000u | ((word ^ SIGNS) >> (BITS * (i + 1)) & MASK)) - ZERO));
  }
};

// e4m3 has 4 significant bits.
template <class Scale>
struct MmaE4M3 {
  using Raw = float;
  static constexpr uint32_t BITS = 8, BLOCK = Scale::BLOCK;
  DEVICE static Raw raw(const uint8_t* scales, uint64_t element, uint32_t) {
    return Scale::load(scales, element / BLOCK);
  }
  DEVICE static float group_scale(Raw raw, float) { return raw; }
  DEVICE static uint32_t pair(uint32_t word, uint32_t i, Raw, uint32_t) {
    const float2 quants = e4m3_pair_to_f32(word >> (BITS * i));
    return pack_upper(bits_of(quants.x), bits_of(quants.y));
  }
};

// A group has two blocks: quants are multiplied by the scale of theirs (2 bits by 4), sums by that of the tensor.
struct MmaNVFP4 {
  using Raw = uint16_t;
  static constexpr uint32_t BITS = 4, BLOCK = 16;
  // Past the end of a row there is no second block.
  DEVICE static Raw raw(const uint8_t* scales, uint64_t element, uint32_t left) {
    const uint8_t* at = scales + element / BLOCK;
    return static_cast<Raw>(at[0] | (left > BLOCK ? at[1] << 8 : 0));
  }
  DEVICE static float group_scale(Raw, float tensor_scale) { return tensor_scale; }
  DEVICE static uint32_t pair(uint32_t word, uint32_t i, Raw raw, uint32_t block) {
    const float2 scales = e4m3_pair_to_f32(raw);
    const float scale = block == 0 ? scales.x : scales.y;
    return pack_upper(bits_of(scale * e2m1_to_f32(word >> (BITS * i))),
                      bits_of(scale * e2m1_to_f32(word >> (BITS * (i + 1)))));
  }
};

// Each thread fetches the scales of one group of 32 elements of a row: where quants have 4 bits, of its own.
template <class Format>
struct MmaBlocks {
  static constexpr uint32_t BITS = Format::BITS, PARTS = 1, ELEMENTS = 128 / BITS;
  static constexpr uint32_t LOADS = MMA_TILE * MMA_CHUNK / ELEMENTS / MMA_THREADS;
  static_assert(MMA_TILE * MMA_CHUNK / MMA_GROUP == MMA_THREADS);
  struct Shared {
    MmaOperand part[PARTS];
    float scales[MMA_TILE][MMA_CHUNK / MMA_GROUP];
  };
  const void* data;
  uint32_t rows, width;
  float tensor_scale;
  uint4 raw[LOADS];
  typename Format::Raw raw_scale;

  DEVICE MmaBlocks(const void* data, uint32_t rows, uint32_t width) : data(data), rows(rows), width(width) {
    tensor_scale = 1.0f;
    if constexpr (Format::BLOCK < MMA_GROUP)
      tensor_scale = NVFP4::tensor_scale(data, static_cast<uint64_t>(rows) * width);
  }

  DEVICE uint32_t end() const { return rows; }
  DEVICE static uint32_t row(uint32_t i) { return (i * MMA_THREADS + threadIdx.x) / (MMA_CHUNK / ELEMENTS); }
  DEVICE static uint32_t k(uint32_t) { return threadIdx.x % (MMA_CHUNK / ELEMENTS) * ELEMENTS; }

  DEVICE void fetch(uint32_t first, uint32_t k_first, uint32_t k_end) {
    const uint64_t start = static_cast<uint64_t>(first) * width + k_first;
#pragma unroll
    for (uint32_t i = 0; i < LOADS; i++)
      raw[i] = first + row(i) < rows && k_first + k(i) < k_end
                 ? load_quants((start + static_cast<uint64_t>(row(i)) * width + k(i)) * BITS / 8,
                               k_first + k(i) + 16 < k_end)
                 : make_uint4(0, 0, 0, 0);
    const uint32_t r = threadIdx.x / 2, group = threadIdx.x % 2 * MMA_GROUP;
    const uint8_t* scales = static_cast<const uint8_t*>(data) + static_cast<uint64_t>(rows) * width * BITS / 8;
    raw_scale = first + r < rows && k_first + group < k_end
                  ? Format::raw(scales, start + static_cast<uint64_t>(r) * width + group, k_end - k_first - group)
                  : typename Format::Raw(0);
  }

  // Rows of blocks of 16 may end, and so begin, in the middle of 16 bytes.
  DEVICE uint4 load_quants(uint64_t byte, bool whole) const {
    const uint8_t* at = static_cast<const uint8_t*>(data) + byte;
    if (Format::BLOCK >= MMA_GROUP || (whole && byte % 16 == 0)) return *reinterpret_cast<const uint4*>(at);
    const uint2 low = *reinterpret_cast<const uint2*>(at);
    const uint2 high = whole ? reinterpret_cast<const uint2*>(at)[1] : make_uint2(0, 0);
    return make_uint4(low.x, low.y, high.x, high.y);
  }

  DEVICE void put(Shared& shared) const {
    shared.scales[threadIdx.x / 2][threadIdx.x % 2] = Format::group_scale(raw_scale, tensor_scale);
#pragma unroll
    for (uint32_t i = 0; i < LOADS; i++) {
      constexpr uint32_t IN_WORD = 32 / BITS;
      const uint32_t word[4] = {raw[i].x, raw[i].y, raw[i].z, raw[i].w};
      const auto pair = [&](uint32_t e) { return Format::pair(word[e / IN_WORD], e % IN_WORD, raw_scale, e / 16); };
#pragma unroll
      for (uint32_t e = 0; e < ELEMENTS; e += 8)
        *reinterpret_cast<uint4*>(&shared.part[0][row(i)][mma_word(row(i), k(i) + e)]) =
          make_uint4(pair(e), pair(e + 2), pair(e + 4), pair(e + 6));
    }
  }

  DEVICE static float scale(const Shared& shared, uint32_t r, uint32_t group) { return shared.scales[r][group]; }
};
