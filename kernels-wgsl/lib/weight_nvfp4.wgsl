// load_weight4(i): elements 4i to 4i+3 of a row-major weight matrix, here stored as nvfp4: eight E2M1 to a word, one
// e4m3 scale for 16 elements and one for all (see src/tensor/format.ts). Scales come from lib/scales_inline.
// 32-bit words that are bound.
const WEIGHT_WORDS: u32 = 4u;
@group(0) @binding(1) var<storage, read_write> weight: array<u32, WEIGHT_WORDS>;

// The four low nibbles: 0, 0.5, 1, 1.5, 2, 3, 4 or 6 and a sign.
fn e2m1_numbers(word: u32) -> vec4f {
  let codes = vec4u(word) >> vec4u(0u, 4u, 8u, 12u);
  let magnitude = codes & vec4u(7u);
  let size = select(
    bitcast<vec4f>((magnitude << vec4u(22u)) + vec4u(0x3f000000u)),
    vec4f(vec4i(magnitude)) * 0.5,
    magnitude < vec4u(2u),
  );
  return select(size, -size, (codes & vec4u(8u)) != vec4u(0u));
}

fn load_weight4(i: u32) -> vec4f {
  return e2m1_numbers(weight[i / 2u] >> (i % 2u * 16u)) * load_scale(i / 4u);
}

fn load_scale_word(i: u32) -> u32 {
  return weight[i];
}
