// Storage formats (src/tensor/format.ts): conversions that round as the host does, bit for bit, loads of elements as
// f32 and stores of f32 as elements. Conversions to f16 and bf16 round to nearest even; a NaN becomes the quiet NaN of
// its sign.
#pragma once
#include "kernel.h"

DEVICE uint32_t bits_of(float x) {
#ifdef __CUDACC__
  return __float_as_uint(x);
#else
  return simt::bits<uint32_t>(x);
#endif
}

DEVICE float float_of(uint32_t bits) {
#ifdef __CUDACC__
  return __uint_as_float(bits);
#else
  return simt::bits<float>(bits);
#endif
}

DEVICE float f16_to_f32(uint32_t half) {
#ifdef __CUDACC__
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(static_cast<unsigned short>(half)));
  return x;
#else
  const uint32_t sign = (half & 0x8000u) << 16, exponent = (half >> 10) & 31u, mantissa = half & 1023u;
  if (exponent == 31) return float_of(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) return (sign ? -1.0f : 1.0f) * static_cast<float>(mantissa) * 0x1p-24f;
  return float_of(sign | ((exponent + 112) << 23) | (mantissa << 13));
#endif
}

DEVICE uint32_t f32_to_f16(float x) {
  const uint32_t bits = bits_of(x), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00u;
#ifdef __CUDACC__
  unsigned short half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
  return half;
#else
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;
  if (magnitude >= 0x38800000u)
    return sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13);
  if (magnitude < 0x33000000u) return sign;
  const uint32_t shift = 126 - (magnitude >> 23), mantissa = (magnitude & 0x7fffffu) | 0x800000u;
  const uint32_t half = 1u << (shift - 1), quotient = mantissa >> shift, rest = mantissa - (quotient << shift);
  return sign | (quotient + (rest > half || (rest == half && (quotient & 1u)) ? 1 : 0));
#endif
}

DEVICE float bf16_to_f32(uint32_t bits) { return float_of(bits << 16); }

DEVICE uint32_t f32_to_bf16(float x) {
  const uint32_t bits = bits_of(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (bits >> 16) | 0x40u;
  return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

// A format as a type for kernel templates. `data` is a tensor of `count` elements; load4 and store4 take an index that
// is a multiple of 4, of which all four elements exist. Block formats hold all quants, then all f16 scales.
struct F32 {
  static constexpr uint32_t BYTES = 4;
  DEVICE static float load(const void* data, uint64_t, uint64_t index) {
    return static_cast<const float*>(data)[index];
  }
  DEVICE static float4 load4(const void* data, uint64_t, uint64_t index) {
    return static_cast<const float4*>(data)[index / 4];
  }
  DEVICE static void store(void* data, uint64_t index, float x) { static_cast<float*>(data)[index] = x; }
  DEVICE static void store4(void* data, uint64_t index, float4 x) { static_cast<float4*>(data)[index / 4] = x; }
};

struct F16 {
  static constexpr uint32_t BYTES = 2;
  DEVICE static float load(const void* data, uint64_t, uint64_t index) {
    return f16_to_f32(static_cast<const uint16_t*>(data)[index]);
  }
  DEVICE static float4 load4(const void* data, uint64_t, uint64_t index) {
    const uint2 v = static_cast<const uint2*>(data)[index / 4];
    return make_float4(f16_to_f32(v.x & 0xffffu), f16_to_f32(v.x >> 16), f16_to_f32(v.y & 0xffffu),
                       f16_to_f32(v.y >> 16));
  }
  DEVICE static void store(void* data, uint64_t index, float x) {
    static_cast<uint16_t*>(data)[index] = static_cast<uint16_t>(f32_to_f16(x));
  }
  DEVICE static void store4(void* data, uint64_t index, float4 x) {
    static_cast<uint2*>(data)[index / 4] =
        make_uint2(f32_to_f16(x.x) | f32_to_f16(x.y) << 16, f32_to_f16(x.z) | f32_to_f16(x.w) << 16);
  }
};

struct BF16 {
  static constexpr uint32_t BYTES = 2;
  DEVICE static float load(const void* data, uint64_t, uint64_t index) {
    return bf16_to_f32(static_cast<const uint16_t*>(data)[index]);
  }
  DEVICE static float4 load4(const void* data, uint64_t, uint64_t index) {
    const uint2 v = static_cast<const uint2*>(data)[index / 4];
    return make_float4(float_of(v.x << 16), float_of(v.x & 0xffff0000u), float_of(v.y << 16),
                       float_of(v.y & 0xffff0000u));
  }
  DEVICE static void store(void* data, uint64_t index, float x) {
    static_cast<uint16_t*>(data)[index] = static_cast<uint16_t>(f32_to_bf16(x));
  }
  DEVICE static void store4(void* data, uint64_t index, float4 x) {
    static_cast<uint2*>(data)[index / 4] =
        make_uint2(f32_to_bf16(x.x) | f32_to_bf16(x.y) << 16, f32_to_bf16(x.z) | f32_to_bf16(x.w) << 16);
  }
};

struct Q8_0 {
  DEVICE static float scale(const void* data, uint64_t count, uint64_t block) {
    return f16_to_f32(reinterpret_cast<const uint16_t*>(static_cast<const uint8_t*>(data) + count)[block]);
  }
  DEVICE static float load(const void* data, uint64_t count, uint64_t index) {
    return scale(data, count, index / 32) * static_cast<float>(static_cast<const int8_t*>(data)[index]);
  }
  DEVICE static float4 load4(const void* data, uint64_t count, uint64_t index) {
    const uint32_t q = static_cast<const uint32_t*>(data)[index / 4];
    const float s = scale(data, count, index / 32);
    return make_float4(s * static_cast<float>(static_cast<int8_t>(q)), s * static_cast<float>(static_cast<int8_t>(q >> 8)),
                       s * static_cast<float>(static_cast<int8_t>(q >> 16)),
                       s * static_cast<float>(static_cast<int8_t>(q >> 24)));
  }
};

struct Q4_0 {
  DEVICE static float scale(const void* data, uint64_t count, uint64_t block) {
    return f16_to_f32(reinterpret_cast<const uint16_t*>(static_cast<const uint8_t*>(data) + count / 2)[block]);
  }
  DEVICE static float quant(uint32_t nibbles, uint32_t i) {
    return static_cast<float>(static_cast<int32_t>((nibbles >> (4 * i)) & 15u) - 8);
  }
  DEVICE static float load(const void* data, uint64_t count, uint64_t index) {
    return scale(data, count, index / 32) * quant(static_cast<const uint8_t*>(data)[index / 2], index % 2);
  }
  DEVICE static float4 load4(const void* data, uint64_t count, uint64_t index) {
    const uint32_t q = static_cast<const uint16_t*>(data)[index / 4];
    const float s = scale(data, count, index / 32);
    return make_float4(s * quant(q, 0), s * quant(q, 1), s * quant(q, 2), s * quant(q, 3));
  }
};
