// How numbers become quants and scales of the planar block formats, byte for byte as src/tensor/block_format.ts has it.
//
// All is exact: divisions round correctly, and a rounded quotient is put right by what it leaves over.
#pragma once
#include "small_float.h"

constexpr uint32_t MAGNITUDE = 0x7fffffffu;

// The larger magnitude, as bits.
DEVICE uint32_t larger_magnitude(uint32_t best, float4 x) {
  return max(max(max(best, bits_of(x.x) & MAGNITUDE), max(bits_of(x.y) & MAGNITUDE, bits_of(x.z) & MAGNITUDE)),
             bits_of(x.w) & MAGNITUDE);
}

// Bits of the first element of largest magnitude of the elements of LANES neighbours; +0 if there is none.
template <uint32_t LANES>
DEVICE uint32_t largest_of(float4 x) {
  const float element[4] = {x.x, x.y, x.z, x.w};
  uint32_t best = 0;
#pragma unroll
  for (uint32_t j = 0; j < 4; j++)
    if ((bits_of(element[j]) & MAGNITUDE) > (best & MAGNITUDE)) best = bits_of(element[j]);
#pragma unroll
  for (uint32_t step = 1; step < LANES; step *= 2) {
    const uint32_t other = __shfl_xor_sync(FULL_WARP, best, step);
    const uint32_t a = best & MAGNITUDE, b = other & MAGNITUDE;
    // Each lane now stands for `step` neighbours; of two such groups the lower one comes first.
    if (b > a || (b == a && (threadIdx.x & step))) best = other;
  }
  return best;
}

// The integer nearest to x / scale, ties to even; `scale` is finite and not 0. Past `limit` it is limit + 1 or more in
// magnitude. The products (q +- 1/2) * scale have at most 9 + 11 significant bits, so contraction changes nothing.
DEVICE int32_t integer_quotient(float x, float scale, float limit) {
  const float size = fabsf(scale), value = fminf(fabsf(x), (limit + 1.0f) * size);
  float q = rintf(value / size);
  const float above = (q + 0.5f) * size, below = (q - 0.5f) * size;
  const bool odd = static_cast<uint32_t>(q) & 1u;
  if (value > above || (value == above && odd)) {
    q += 1.0f;
  } else if (value < below || (value == below && odd)) {
    q -= 1.0f;
  }
  return static_cast<int32_t>((x < 0.0f) != (scale < 0.0f) ? -q : q);
}

// x / divisor, not to nearest where it is no f32 but to the one of its two neighbours that is odd: rounded once more, to
// far fewer bits, it becomes what the exact quotient becomes. `divisor` is positive, at least 2^-109.
DEVICE float odd_quotient(float x, float divisor) {
  const float size = fabsf(x), q = size / divisor, rest = fmaf(-q, divisor, size);
  uint32_t bits = bits_of(q);
  if (rest != 0.0f && bits % 2 == 0) bits += rest > 0.0f ? 1u : 0xffffffffu;
  return float_of(bits | (bits_of(x) & 0x80000000u));
}

// A scale in f32 of numbers up to the magnitude of `largest`: NaN if that is not finite, zero below 2^-100.
DEVICE float f32_scale(uint32_t largest, float divisor) {
  const float scale = float_of(largest & MAGNITUDE) / divisor;
  if (!(scale < INFINITY)) return float_of(0x7fc00000u);
  return scale < 0x1p-100f ? 0.0f : scale;
}

// Formats: `scale_code` is what is stored of a block's scale, `divisor` what its elements are divided by, 0 where all
// quants are the quant 0; `encode4` gives those for 0. `tensor` is the scale of the whole tensor, where there is one.

// scale = |largest| / 127, quants in -127 to 127 as bytes.
struct ToQ8_0 {
  using Four = uint32_t;
  using Scale = uint16_t;
  static constexpr uint32_t BLOCK = 32, BITS = 8;
  static constexpr bool TENSOR = false;
  DEVICE static uint32_t scale_code(uint32_t largest, float) { return f32_to_f16(fabsf(float_of(largest)) / 127.0f); }
  DEVICE static float divisor(uint32_t code, float) { return (code & 0x7fffu) < 0x7c00u ? f16_to_f32(code) : 0.0f; }
  DEVICE static uint32_t encode(float x, float scale) {
    const int32_t q = scale == 0.0f ? 0 : integer_quotient(x, scale, 127.0f);
    return static_cast<uint32_t>(min(max(q, -127), 127)) & 0xffu;
  }
  DEVICE static uint32_t encode4(float4 x, float scale) {
    return encode(x.x, scale) | encode(x.y, scale) << 8 | encode(x.z, scale) << 16 | encode(x.w, scale) << 24;
  }
};

// scale = largest / -8, quants in -8 to 7 stored plus 8 as nibbles.
struct ToQ4_0 {
  using Four = uint16_t;
  using Scale = uint16_t;
  static constexpr uint32_t BLOCK = 32, BITS = 4;
  static constexpr bool TENSOR = false;
  DEVICE static uint32_t scale_code(uint32_t largest, float) { return f32_to_f16(float_of(largest) * -0.125f); }
  DEVICE static float divisor(uint32_t code, float) { return ToQ8_0::divisor(code, 1.0f); }
  DEVICE static uint32_t encode(float x, float scale) {
    const int32_t q = scale == 0.0f ? 0 : integer_quotient(x, scale, 8.0f);
    return static_cast<uint32_t>(min(max(q + 8, 0), 15));
  }
  DEVICE static uint32_t encode4(float4 x, float scale) {
    return encode(x.x, scale) | encode(x.y, scale) << 4 | encode(x.z, scale) << 8 | encode(x.w, scale) << 12;
  }
};

// scale = |largest| / 448, quants e4m3.
struct ToE4M3_128 {
  using Four = uint32_t;
  using Scale = uint32_t;
  static constexpr uint32_t BLOCK = 128, BITS = 8;
  static constexpr bool TENSOR = false;
  DEVICE static uint32_t scale_code(uint32_t largest, float) { return bits_of(f32_scale(largest, 448.0f)); }
  DEVICE static float divisor(uint32_t code, float) { return code < 0x7f800000u ? float_of(code) : 0.0f; }
  DEVICE static uint32_t encode4(float4 x, float scale) {
    if (scale == 0.0f) return 0;
    return f32_to_e4m3_four(make_float4(odd_quotient(x.x, scale), odd_quotient(x.y, scale), odd_quotient(x.z, scale),
                                        odd_quotient(x.w, scale)));
  }
};

// scale = 2^(floor(log2(|largest|)) - 8), at least 2^-126, quants e4m3: the multiplication is exact.
struct ToMXFP8 {
  using Four = uint32_t;
  using Scale = uint8_t;
  static constexpr uint32_t BLOCK = 32, BITS = 8;
  static constexpr bool TENSOR = false;
  DEVICE static uint32_t scale_code(uint32_t largest, float) {
    const uint32_t exponent = (largest & MAGNITUDE) >> 23;
    return exponent == 255 ? 255u : exponent > 9 ? exponent - 8 : 1u;
  }
  DEVICE static float divisor(uint32_t code, float) { return code == 255 ? 0.0f : e8m0_to_f32(code); }
  // By 2^-k: 254 is the sum of its exponent's bits and of 2^k's.
  DEVICE static uint32_t encode4(float4 x, float scale) {
    if (scale == 0.0f) return 0;
    const float inverse = float_of(0x7f000000u - bits_of(scale));
    return f32_to_e4m3_four(make_float4(x.x * inverse, x.y * inverse, x.z * inverse, x.w * inverse));
  }
};

// scale = |largest| / (6 tensor) as e4m3, quants E2M1.
struct ToNVFP4 {
  using Four = uint16_t;
  using Scale = uint8_t;
  static constexpr uint32_t BLOCK = 16, BITS = 4;
  static constexpr bool TENSOR = true;
  DEVICE static float tensor_scale(uint32_t largest) { return f32_scale(largest, 6.0f * 448.0f); }
  DEVICE static uint32_t scale_code(uint32_t largest, float tensor) {
    if (!(tensor > 0.0f)) return 0;
    return f32_to_e4m3_pair(odd_quotient(fabsf(float_of(largest)), 6.0f * tensor), 0.0f) & 0xffu;
  }
  DEVICE static float divisor(uint32_t code, float tensor) {
    return code == 0 ? 0.0f : e4m3_pair_to_f32(code).x * tensor;
  }
  DEVICE static uint32_t encode(float x, float scale) { return f32_to_e2m1(odd_quotient(x, scale)); }
  DEVICE static uint32_t encode4(float4 x, float scale) {
    if (scale == 0.0f) return 0;
    return encode(x.x, scale) | encode(x.y, scale) << 4 | encode(x.z, scale) << 8 | encode(x.w, scale) << 12;
  }
};

// Where a tensor of nvfp4 has its own scale.
DEVICE float* tensor_scale_of(uint8_t* y, uint64_t blocks) {
  return reinterpret_cast<float*>(y + (blocks * (ToNVFP4::BLOCK / 2 + 1) + 3) / 4 * 4);
}

// Elements 4 i to 4 i + 3 become quants of y, and each block's first lane stores its scale. All lanes of a warp must
// call with neighbours i, `live` or not.
template <class To>
DEVICE void quantize_four(uint8_t* y, uint64_t blocks, uint64_t i, float4 x, bool live) {
  constexpr uint32_t LANES = To::BLOCK / 4;
  float tensor = 1.0f;
  if constexpr (To::TENSOR) tensor = *tensor_scale_of(y, blocks);
  const uint32_t code = To::scale_code(largest_of<LANES>(x), tensor);
  if (!live) return;

  const float scale = To::divisor(code, tensor);
  reinterpret_cast<typename To::Four*>(y)[i] = static_cast<typename To::Four>(To::encode4(x, scale));
  const uint64_t block = i / LANES;
  if (i % LANES != 0) return;
  typename To::Scale* scales = reinterpret_cast<typename To::Scale*>(y + blocks * To::BLOCK * To::BITS / 8);
  scales[block] = static_cast<typename To::Scale>(code);
  // The last word of the scales ends in zeros.
  if (block + 1 == blocks)
    for (uint64_t end = blocks; end * sizeof(typename To::Scale) % 4 != 0; end++) scales[end] = 0;
}
