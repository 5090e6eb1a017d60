// Numbers of 8 and 4 bits (src/tensor/float_bits.ts) and the formats made of them, with the interface of lib/storage.h.
#pragma once
#include "storage.h"

// Two e4m3, the first in the lower byte, as two f16 or f32; exact.
#ifdef __CUDACC__
DEVICE uint32_t e4m3_pair_to_f16(uint32_t pair) {
  uint32_t half;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(half) : "h"(static_cast<unsigned short>(pair)));
  return half;
}
DEVICE float2 e4m3_pair_to_f32(uint32_t pair) {
  const uint32_t half = e4m3_pair_to_f16(pair);
  return make_float2(f16_to_f32(half & 0xffffu), f16_to_f32(half >> 16));
}
#else
inline float2 e4m3_pair_to_f32(uint32_t pair) {
  const auto one = [](uint32_t bits) {
    const uint32_t sign = (bits & 0x80u) << 24, code = bits & 0x7fu;
    // Seven bits in the place of an f32's are 2^120 too small; subnormals stay right.
    return code == 0x7fu ? float_of(sign | 0x7fc00000u) : float_of(sign | code << 20) * 0x1p120f;
  };
  return make_float2(one(pair & 0xffu), one(pair >> 8 & 0xffu));
}
inline uint32_t e4m3_pair_to_f16(uint32_t pair) {
  const float2 x = e4m3_pair_to_f32(pair);
  return f32_to_f16(x.x) | f32_to_f16(x.y) << 16;
}
#endif

DEVICE float4 e4m3_four_to_f32(uint32_t word) {
  const float2 low = e4m3_pair_to_f32(word & 0xffffu), high = e4m3_pair_to_f32(word >> 16);
  return make_float4(low.x, low.y, high.x, high.y);
}

#ifndef __CUDACC__
// The nearest magnitude with MANTISSA bits behind the point and 2^-LEAST as its smallest normal number; ties to even.
template <uint32_t MANTISSA, uint32_t LEAST, uint32_t MOST>
uint32_t small_magnitude(uint32_t bits) {
  const uint32_t size = bits & 0x7fffffffu, exponent = size >> 23;
  constexpr uint32_t FIRST = 127 - LEAST, DROP = 23 - MANTISSA;
  if (exponent + MANTISSA + 1 < FIRST) return 0;  // below half of the smallest number
  // With the exponent of the result: subnormals have that of the smallest normal number.
  const uint32_t shift = exponent < FIRST ? DROP + FIRST - exponent : DROP;
  const uint32_t mantissa = (size & 0x7fffffu) | 0x800000u, half = 1u << (shift - 1);
  const uint32_t steps = (mantissa + half - 1 + (mantissa >> shift & 1u)) >> shift;
  const uint32_t code = (exponent < FIRST ? 0u : (exponent - FIRST) << MANTISSA) + steps;
  return code < MOST ? code : MOST;
}
#endif

// The nearest e4m3 of two f32, the first in the lower byte; what is past 448 becomes 448, NaN 0x7f.
DEVICE uint32_t f32_to_e4m3_pair(float low, float high) {
#ifdef __CUDACC__
  unsigned short pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
  return pair;
#else
  const auto one = [](float x) {
    const uint32_t bits = bits_of(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fu;
    return (bits >> 24 & 0x80u) | small_magnitude<3, 6, 0x7e>(bits);
  };
  return one(low) | one(high) << 8;
#endif
}

DEVICE uint32_t f32_to_e4m3_four(float4 x) {
  return f32_to_e4m3_pair(x.x, x.y) | f32_to_e4m3_pair(x.z, x.w) << 16;
}

// The number of 4 bits, E2M1: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and a sign. Three bits in the place of an f32's are 2^126 too
// small; the subnormal one stays right.
DEVICE float e2m1_to_f32(uint32_t bits) { return float_of((bits & 8u) << 28 | (bits & 7u) << 22) * 0x1p126f; }

// The nearest E2M1; what is past 6 becomes 6. Ties go to the even code.
DEVICE uint32_t f32_to_e2m1(float x) {
  const float size = fabsf(x);
  const uint32_t code = (size > 0.25f ? 1u : 0u) + (size >= 0.75f ? 1u : 0u) + (size > 1.25f ? 1u : 0u) +
                        (size >= 1.75f ? 1u : 0u) + (size > 2.5f ? 1u : 0u) + (size >= 3.5f ? 1u : 0u) +
                        (size > 5.0f ? 1u : 0u);
  return bits_of(x) >> 28 & 8u | code;
}

// 2^(bits - 127), NaN for 0xff.
DEVICE float e8m0_to_f32(uint32_t bits) {
  return float_of(bits == 0xffu ? 0x7fc00000u : bits == 0 ? 0x00400000u : bits << 23);
}

struct E4M3 {
  static constexpr uint32_t BYTES = 1;
  DEVICE static float load(const void* data, uint64_t, uint64_t index) {
    return e4m3_pair_to_f32(static_cast<const uint8_t*>(data)[index]).x;
  }
  DEVICE static float4 load4(const void* data, uint64_t, uint64_t index) {
    return e4m3_four_to_f32(static_cast<const uint32_t*>(data)[index / 4]);
  }
  DEVICE static void store(void* data, uint64_t index, float x) {
    static_cast<uint8_t*>(data)[index] = static_cast<uint8_t>(f32_to_e4m3_pair(x, 0.0f));
  }
  DEVICE static void store4(void* data, uint64_t index, float4 x) {
    static_cast<uint32_t*>(data)[index / 4] = f32_to_e4m3_four(x);
  }
};

// e4m3 quants whose scales `Scale` reads from behind them.
template <class Scale>
struct E4M3Blocks {
  static constexpr uint32_t BLOCK = Scale::BLOCK;
  DEVICE static float scale(const void* data, uint64_t count, uint64_t block) {
    return Scale::load(static_cast<const uint8_t*>(data) + count, block);
  }
  DEVICE static float load(const void* data, uint64_t count, uint64_t index) {
    return scale(data, count, index / BLOCK) * E4M3::load(data, count, index);
  }
  DEVICE static float4 load4(const void* data, uint64_t count, uint64_t index) {
    const float4 q = E4M3::load4(data, count, index);
    const float s = scale(data, count, index / BLOCK);
    return make_float4(s * q.x, s * q.y, s * q.z, s * q.w);
  }
};

struct ScaleF32Of128 {
  static constexpr uint32_t BLOCK = 128;
  DEVICE static float load(const void* scales, uint64_t block) { return static_cast<const float*>(scales)[block]; }
};

struct ScaleE8M0Of32 {
  static constexpr uint32_t BLOCK = 32;
  DEVICE static float load(const void* scales, uint64_t block) {
    return e8m0_to_f32(static_cast<const uint8_t*>(scales)[block]);
  }
};

using E4M3_128 = E4M3Blocks<ScaleF32Of128>;
using MXFP8 = E4M3Blocks<ScaleE8M0Of32>;

struct NVFP4 {
  static constexpr uint32_t BLOCK = 16;
  // Of all blocks, of `count` elements.
  DEVICE static float tensor_scale(const void* data, uint64_t count) {
    return reinterpret_cast<const float*>(static_cast<const uint8_t*>(data) + (count / BLOCK * 9 + 3) / 4 * 4)[0];
  }
  DEVICE static float block_scale(const void* data, uint64_t count, uint64_t block) {
    return E4M3::load(static_cast<const uint8_t*>(data) + count / 2, 0, block);
  }
  DEVICE static float scale(const void* data, uint64_t count, uint64_t block) {
    return block_scale(data, count, block) * tensor_scale(data, count);
  }
  DEVICE static float load(const void* data, uint64_t count, uint64_t index) {
    return scale(data, count, index / BLOCK) *
           e2m1_to_f32(static_cast<const uint8_t*>(data)[index / 2] >> (4 * (index % 2)));
  }
  DEVICE static float4 load4(const void* data, uint64_t count, uint64_t index) {
    const uint32_t q = static_cast<const uint16_t*>(data)[index / 4];
    const float s = scale(data, count, index / BLOCK);
    return make_float4(s * e2m1_to_f32(q), s * e2m1_to_f32(q >> 4), s * e2m1_to_f32(q >> 8),
                       s * e2m1_to_f32(q >> 12));
  }
};
