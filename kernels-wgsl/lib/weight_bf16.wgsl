// load_weight4(i): elements 4i to 4i+3 of a row-major weight matrix, here stored as bf16, two to a word.
// 32-bit words that are bound.
const WEIGHT_WORDS: u32 = 4u;
@group(0) @binding(1) var<storage, read_write> weight: array<vec2u, WEIGHT_WORDS / 2u>;

fn load_weight4(i: u32) -> vec4f {
  let words = weight[i].xxyy;
  return bitcast<vec4f>(vec4u(words.x << 16u, words.y & 0xffff0000u, words.z << 16u, words.w & 0xffff0000u));
}
