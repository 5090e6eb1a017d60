// Hooks of quantize for e4m3_128: scale = |largest| / 448 in f32, quants e4m3, four to a word.
const QUANTS: u32 = 4u; // to a word
const SCALES_IN_WORD: u32 = 1u;

fn scale_code(largest: u32) -> u32 {
  return f32_scale(largest & MAGNITUDE, 7u, 6u);
}

fn divisor_of(code: u32) -> u32 {
  return select(0u, code, code < 0x7f800000u);
}

fn encode_four(bits: vec4u, divisor: u32) -> vec4u {
  if (divisor == 0u) { return vec4u(0u); }
  return e4m3_bits((bits & vec4u(SIGN)) | cut_quotient(bits & vec4u(MAGNITUDE), divisor));
}
