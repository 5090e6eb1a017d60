// Hooks of quantize for q4_0: scale = largest / -8, quants in -8 to 7 stored plus 8, eight to a word.
const QUANTS: u32 = 8u; // to a word
const QUOTIENT_LIMIT: f32 = 8.0;

fn encode_quant(q: i32) -> u32 {
  return u32(clamp(q + 8, 0, 15));
}

// Bits of v / -8: three off the exponent, where the result is not zero as an f16 scale anyway.
fn scale_of(bits: u32) -> u32 {
  let magnitude = bits & 0x7fffffffu;
  let sign = (bits & 0x80000000u) ^ 0x80000000u;
  if (magnitude >= 0x7f800000u) { return sign | magnitude; }
  return sign | select(0u, magnitude - 0x1800000u, magnitude >= 0x20000000u);
}
