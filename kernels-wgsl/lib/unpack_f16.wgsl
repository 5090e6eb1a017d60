// f32_bits: bits of an f16 to bits of the same number as f32, exact also where a driver flushes subnormals of its own
// conversion.
fn f32_bits(half: u32) -> u32 {
  let sign = (half & 0x8000u) << 16u;
  let magnitude = half & 0x7fffu;
  if (magnitude >= 0x7c00u) { return sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13u); } // infinity, NaN
  if (magnitude >= 0x400u) { return sign | ((magnitude << 13u) + 0x38000000u); }
  return sign | bitcast<u32>(f32(magnitude) * 0x1p-24f); // subnormal as f16, exact and normal as f32
}
