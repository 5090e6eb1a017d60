// load_weight4(i): elements 4i to 4i+3 of a row-major weight matrix, here stored as q8_0: four signed bytes to a
// word, one f16 scale for 32 elements (see src/tensor/format.ts). Scales come from a scales_* module.
@group(0) @binding(1) var<storage, read_write> weight: array<u32>;

fn load_weight4(i: u32) -> vec4f {
  return vec4f(unpack4xI8(weight[i])) * load_scale(i / 8u);
}

fn load_scale_word(i: u32) -> u32 {
  return weight[i];
}
