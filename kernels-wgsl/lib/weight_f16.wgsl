// load_weight4(i): elements 4i to 4i+3 of a row-major weight matrix, here stored as f16, two to a word.
// 32-bit words that are bound.
const WEIGHT_WORDS: u32 = 4u;
@group(0) @binding(1) var<storage, read_write> weight: array<vec2u, WEIGHT_WORDS / 2u>;

fn load_weight4(i: u32) -> vec4f {
  let words = weight[i];
  return vec4f(unpack2x16float(words.x), unpack2x16float(words.y));
}
