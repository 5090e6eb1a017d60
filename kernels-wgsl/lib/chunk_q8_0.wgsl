// multiply_chunk(i, xs): products of the i-th chunk of weights with xs, summed to four partial sums. A chunk is 16
// weights stored as q8_0, half a block.
struct Chunk {
  x0: vec4f,
  x1: vec4f,
  x2: vec4f,
  x3: vec4f,
}

fn load_chunk(i: u32) -> Chunk {
  return Chunk(x[i * 4u + 0u] * PLACES, x[i * 4u + 1u] * PLACES, x[i * 4u + 2u] * PLACES, x[i * 4u + 3u] * PLACES);
}

// 32-bit words that are bound.
const WEIGHT_WORDS: u32 = 4u;
@group(0) @binding(1) var<storage, read_write> weight: array<vec4u, WEIGHT_WORDS / 4u>;

// Four signed bytes, each times the power of 256 of its place, which x is divided by: masks, since SwiftShader shifts lane
// by lane, and one step a weight less than undoing it here. Three bytes are offset by 128, the highest has the word's
// sign. Every step is exact (of an x below 2^-102, bits may be lost).
const PLACES: vec4f = vec4f(1.0, 0x1p-8f, 0x1p-16f, 0x1p-24f);

fn bytes(word: u32) -> vec4f {
  let placed = vec4u(word ^ 0x808080u) & vec4u(0xffu, 0xff00u, 0xff0000u, 0xff000000u);
  return vec4f(vec4i(placed)) - vec4f(0x1p7f, 0x1p15f, 0x1p23f, 0.0);
}

fn multiply_chunk(i: u32, xs: Chunk) -> vec4f {
  let words = weight[i];
  let sum = bytes(words.x) * xs.x0 + bytes(words.y) * xs.x1 +
    bytes(words.z) * xs.x2 + bytes(words.w) * xs.x3;
  return sum * load_scale(i / 2u);
}

fn load_scale_word(i: u32) -> u32 {
  return weight[i / 4u][i % 4u];
}
