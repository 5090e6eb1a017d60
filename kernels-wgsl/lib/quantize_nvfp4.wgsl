// Hooks of quantize for nvfp4: scale = |largest| / (6 t) as e4m3, t being the scale of the whole tensor, which
// quantize_tensor_scale left in the last word of y; quants E2M1, eight to a word.
const QUANTS: u32 = 8u; // to a word
const SCALES_IN_WORD: u32 = 4u;
const TENSOR_SCALE_WORD: u32 = 18u;

fn usable(tensor_scale: u32) -> bool {
  return tensor_scale != 0u && tensor_scale < 0x7f800000u;
}

fn scale_code(largest: u32) -> u32 {
  let tensor_scale = y[TENSOR_SCALE_WORD];
  if (!usable(tensor_scale)) { return 0u; }
  return e4m3_bits(cut_quotient(vec4u(largest & MAGNITUDE), multiplied(tensor_scale, 6u))).x;
}

// The product of both scales: that of the block is a number below 16 times a power of two, 2^-9 for subnormal ones.
fn divisor_of(code: u32) -> u32 {
  if (code == 0u) { return 0u; }
  let factor = (code & 7u) | select(0u, 8u, code >= 8u);
  let exponent = max(code >> 3u, 1u);
  return multiplied(y[TENSOR_SCALE_WORD], factor) + (exponent << 23u) - (10u << 23u);
}

fn encode_four(bits: vec4u, divisor: u32) -> vec4u {
  if (divisor == 0u) { return vec4u(0u); }
  let quotients = cut_quotient(bits & vec4u(MAGNITUDE), divisor);
  return ((bits >> vec4u(28u)) & vec4u(8u)) | min(small_magnitude(quotients, 1u, 127u), vec4u(7u));
}
