// Hooks of quantize for mxfp8: scale = 2^(floor(log2(|largest|)) - 8) by its exponent, at least 2^-126; quants e4m3, four
// to a word.
const QUANTS: u32 = 4u; // to a word
const SCALES_IN_WORD: u32 = 4u;

fn scale_code(largest: u32) -> u32 {
  let exponent = (largest & MAGNITUDE) >> 23u;
  if (exponent == 255u) { return 255u; }
  return select(1u, exponent - 8u, exponent > 9u);
}

fn divisor_of(code: u32) -> u32 {
  return select(code, 0u, code == 255u);
}

// The division moves exponents; `divisor` is that of the scale.
fn encode_four(bits: vec4u, divisor: u32) -> vec4u {
  if (divisor == 0u) { return vec4u(0u); }
  let given = bits & vec4u(MAGNITUDE);
  let subnormal = given < vec4u(0x800000u); // so many times 2^-149
  let magnitude = select(given, bitcast<vec4u>(vec4f(given)), subnormal);
  let exponent = vec4i(magnitude >> vec4u(23u)) + 127 - i32(divisor) - select(vec4i(0), vec4i(149), subnormal);
  let moved = (vec4u(exponent) << vec4u(23u)) | (magnitude & vec4u(0x7fffffu));
  return e4m3_bits((bits & vec4u(SIGN)) | select(moved, vec4u(0u), exponent <= vec4i(0)));
}
