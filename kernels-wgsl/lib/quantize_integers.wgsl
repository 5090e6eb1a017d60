// Of quantize: integer quants, and scales that are f16, two to a word.
const SCALES_IN_WORD: u32 = 2u;

fn scale_code(largest: u32) -> u32 {
  return f16_bits(scale_of(largest));
}

// Bits of what elements are divided by; 0 where all quants are the quant 0.
fn divisor_of(code: u32) -> u32 {
  let usable = (code & 0x7fffu) != 0u && (code & 0x7fffu) < 0x7c00u;
  return select(0u, f32_bits(code), usable);
}

// The integers nearest to values / divisor, ties to even; all by their bits, the divisor is finite and not 0. Quotients
// past LIMIT + 1 come out as LIMIT + 1 or more, which the caller's clamp takes. The products (q +- 1/2) * size are exact:
// at most 9 + 11 significant bits.
fn quotient(bits: vec4u, divisor: u32) -> vec4i {
  let size = bitcast<f32>(divisor & MAGNITUDE);
  let value = min(bitcast<vec4f>(bits & vec4u(MAGNITUDE)), vec4f((QUOTIENT_LIMIT + 1.0) * size));
  let q = floor(value / size + 0.5);
  let odd = (vec4u(q) & vec4u(1u)) == vec4u(1u);
  let above = (q + 0.5) * size;
  let below = (q - 0.5) * size;
  let up = (value > above) | ((value == above) & odd);
  let down = (value < below) | ((value == below) & odd);
  let nearest = vec4i(q) + select(select(vec4i(0), vec4i(-1), down), vec4i(1), up);
  return select(nearest, -nearest, ((bits ^ vec4u(divisor)) & vec4u(SIGN)) != vec4u(0u));
}
