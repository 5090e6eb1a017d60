// f16_bits: bits of an f32 to bits of the nearest f16, ties to even, in integers, as WGSL leaves the rounding of
// its own conversion open. Same results as f16FromNumber in src/tensor/format.ts.
fn f16_bits(bits: u32) -> u32 {
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return sign | 0x7e00u; } // NaN
  if (magnitude >= 0x477ff000u) { return sign | 0x7c00u; } // rounds to infinity
  if (magnitude >= 0x38800000u) { // normal
    return sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13u) & 1u)) >> 13u);
  }
  if (magnitude < 0x33000000u) { return sign; } // below half of the smallest subnormal
  let shift = 126u - (magnitude >> 23u); // 14 to 24
  let mantissa = (magnitude & 0x7fffffu) | 0x800000u;
  let quotient = mantissa >> shift;
  let rest = mantissa & ((1u << shift) - 1u);
  let half = 1u << (shift - 1u);
  let up = rest > half || (rest == half && (quotient & 1u) == 1u);
  return sign | (quotient + select(0u, 1u, up));
}
