// Numbers of tensor cores' formats.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#pragma GCC visibility push(hidden)

namespace simt {

// A sign, an exponent and a mantissa, without infinities and NaN.
inline float value_of(uint32_t bits, int exponent_bits, int mantissa_bits, int bias) {
  const uint32_t mantissa = bits & ((1u << mantissa_bits) - 1);
  const int exponent = static_cast<int>(bits >> mantissa_bits & ((1u << exponent_bits) - 1));
  const bool negative = bits >> (exponent_bits + mantissa_bits) & 1;
  const auto whole = static_cast<float>(exponent == 0 ? mantissa : mantissa | 1u << mantissa_bits);
  const float magnitude = std::ldexp(whole, std::max(exponent, 1) - bias - mantissa_bits);
  return negative ? -magnitude : magnitude;
}

inline float f16_value(uint32_t bits) {
  if ((bits & 0x7c00) == 0x7c00) return bits & 0x3ff ? NAN : bits & 0x8000 ? -INFINITY : INFINITY;
  return value_of(bits, 5, 10, 15);
}

inline float bf16_value(uint32_t bits) {
  const uint32_t word = bits << 16;
  float value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

inline float e4m3_value(uint32_t bits) { return (bits & 0x7f) == 0x7f ? NAN : value_of(bits, 4, 3, 7); }
inline float e2m1_value(uint32_t bits) { return value_of(bits, 2, 1, 1); }
inline float e8m0_value(uint32_t bits) { return bits == 0xff ? NAN : std::ldexp(1.0f, static_cast<int>(bits) - 127); }

}  // namespace simt

#pragma GCC visibility pop
