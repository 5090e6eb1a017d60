// Hooks of quantize for q8_0: scale = |largest| / 127, quants in -127 to 127, four to a word.
const QUANTS: u32 = 4u; // to a word
const QUOTIENT_LIMIT: f32 = 127.0;

fn encode_four(bits: vec4u, divisor: u32) -> vec4u {
  if (divisor == 0u) { return vec4u(0u); }
  return vec4u(clamp(quotient(bits, divisor), vec4i(-127), vec4i(127))) & vec4u(0xffu);
}

fn scale_of(bits: u32) -> u32 {
  let magnitude = bits & MAGNITUDE;
  if (magnitude >= 0x7f800000u) { return magnitude; }
  if (magnitude < 0x20000000u) { return 0u; } // below 2^-63: zero as an f16 scale
  return divided(magnitude, 127u, 0u);
}
