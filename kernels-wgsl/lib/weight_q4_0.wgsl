// load_weight4(i): elements 4i to 4i+3 of a row-major weight matrix, here stored as q4_0: eight nibbles to a
// word, one f16 scale for 32 elements (see src/tensor/format.ts). Scales come from a scales_* module.
// 32-bit words that are bound.
const WEIGHT_WORDS: u32 = 4u;
@group(0) @binding(1) var<storage, read_write> weight: array<u32, WEIGHT_WORDS>;

// The four low nibbles. Masks, since SwiftShader shifts lane by lane; every step is exact.
fn nibbles(word: u32) -> vec4f {
  let placed = vec4u(word) & vec4u(0xfu, 0xf0u, 0xf00u, 0xf000u);
  return vec4f(vec4i(placed)) * vec4f(1.0, 0x1p-4f, 0x1p-8f, 0x1p-12f) - 8.0;
}

fn load_weight4(i: u32) -> vec4f {
  return nibbles(weight[i / 2u] >> (i % 2u * 16u)) * load_scale(i / 8u);
}

fn load_scale_word(i: u32) -> u32 {
  return weight[i];
}
