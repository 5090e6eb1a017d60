// load_weight4(i): elements 4i to 4i+3 of a row-major weight matrix, here stored as f32.
// 32-bit words that are bound.
const WEIGHT_WORDS: u32 = 4u;
@group(0) @binding(1) var<storage, read_write> weight: array<vec4f, WEIGHT_WORDS / 4u>;

fn load_weight4(i: u32) -> vec4f {
  return weight[i];
}
