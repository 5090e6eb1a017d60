// Hooks of quantize for q4_0: scale = largest / -8, quants in -8 to 7 stored plus 8, eight to a word.
const QUANTS: u32 = 8u; // to a word
const QUOTIENT_LIMIT: f32 = 8.0;

fn encode_four(bits: vec4u, divisor: u32) -> vec4u {
  if (divisor == 0u) { return vec4u(8u); }
  return vec4u(clamp(quotient(bits, divisor) + 8, vec4i(0), vec4i(15)));
}

// Bits of v / -8: three off the exponent, where the result is not zero as an f16 scale anyway.
fn scale_of(bits: u32) -> u32 {
  let magnitude = bits & MAGNITUDE;
  let sign = (bits & SIGN) ^ SIGN;
  if (magnitude >= 0x7f800000u) { return sign | magnitude; }
  return sign | select(0u, magnitude - 0x1800000u, magnitude >= 0x20000000u);
}
