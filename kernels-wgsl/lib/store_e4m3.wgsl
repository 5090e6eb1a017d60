// e4m3_bits: bits of f32 to bits of the nearest e4m3, ties to even, by lib/small_float; what is past 448 becomes 448.
// Same results as e4m3FromNumber in src/tensor/float_bits.ts.
fn e4m3_bits(bits: vec4u) -> vec4u {
  let magnitude = bits & vec4u(0x7fffffffu);
  let number = ((bits >> vec4u(24u)) & vec4u(0x80u)) | min(small_magnitude(magnitude, 3u, 121u), vec4u(0x7eu));
  return select(number, vec4u(0x7fu), magnitude > vec4u(0x7f800000u)); // NaN
}

// Four of them in a word.
fn e4m3_word(bits: vec4u) -> u32 {
  let codes = e4m3_bits(bits) << vec4u(0u, 8u, 16u, 24u);
  return codes.x | codes.y | codes.z | codes.w;
}
