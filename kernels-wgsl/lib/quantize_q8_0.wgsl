// Hooks of quantize for q8_0: scale = |largest| / 127, quants in -127 to 127, four to a word.
const QUANTS: u32 = 4u; // to a word
const QUOTIENT_LIMIT: f32 = 127.0;

fn encode_quant(q: i32) -> u32 {
  return u32(clamp(q, -127, 127)) & 0xffu;
}

// Bits of the f32 nearest to |v| / 127: long division of the 24-bit mantissa, shifted left by 8, leaves 25 or 26
// bits of quotient and a remainder to round by.
fn scale_of(bits: u32) -> u32 {
  let magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x7f800000u) { return magnitude; }
  if (magnitude < 0x20000000u) { return 0u; } // below 2^-63: zero as an f16 scale
  let mantissa = ((magnitude & 0x7fffffu) | 0x800000u) << 8u;
  let quotient = mantissa / 127u;
  let drop = select(1u, 2u, quotient >= 0x2000000u); // to 24 bits
  let rest = ((quotient & ((1u << drop) - 1u)) << 1u) | select(0u, 1u, quotient * 127u != mantissa);
  let kept = quotient >> drop;
  let half = 1u << drop;
  let up = rest > half || (rest == half && (kept & 1u) == 1u);
  // kept * 2^(exponent - 150 - 8 + drop); a carry out of the mantissa moves into the exponent as it should.
  return (((magnitude >> 23u) - 8u + drop) << 23u) + (kept - 0x800000u) + select(0u, 1u, up);
}
