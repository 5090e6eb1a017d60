// load_weight4(i): elements 4i to 4i+3 of a row-major weight matrix, here stored as e4m3_128: four e4m3 to a word, by
// lib/unpack_e4m3, one scale for 128 elements (see src/tensor/format.ts). Scales come from a scales_* module.
// 32-bit words that are bound.
const WEIGHT_WORDS: u32 = 4u;
@group(0) @binding(1) var<storage, read_write> weight: array<u32, WEIGHT_WORDS>;

fn load_weight4(i: u32) -> vec4f {
  return e4m3_numbers(weight[i]) * load_scale(i / 32u);
}

fn load_scale_word(i: u32) -> u32 {
  return weight[i];
}
