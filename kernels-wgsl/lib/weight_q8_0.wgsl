// load_weight4(i): elements 4i to 4i+3 of a row-major weight matrix, here stored as q8_0: four signed bytes to a
// word, one f16 scale for 32 elements (see src/tensor/format.ts). Scales come from a scales_* module.
// 32-bit words that are bound.
const WEIGHT_WORDS: u32 = 4u;
@group(0) @binding(1) var<storage, read_write> weight: array<u32, WEIGHT_WORDS>;

// Four signed bytes. Masks, since SwiftShader shifts lane by lane: three bytes are offset by 128, the highest has the
// word's sign; every step is exact.
fn bytes(word: u32) -> vec4f {
  let placed = vec4u(word ^ 0x808080u) & vec4u(0xffu, 0xff00u, 0xff0000u, 0xff000000u);
  return vec4f(vec4i(placed)) * vec4f(1.0, 0x1p-8f, 0x1p-16f, 0x1p-24f) - vec4f(128.0, 128.0, 128.0, 0.0);
}

fn load_weight4(i: u32) -> vec4f {
  return bytes(weight[i]) * load_scale(i / 8u);
}

fn load_scale_word(i: u32) -> u32 {
  return weight[i];
}
