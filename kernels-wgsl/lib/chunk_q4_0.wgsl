// multiply_chunk(i, xs): products of the i-th chunk of weights with xs, summed to four partial sums. A chunk is a
// block of 32 weights stored as q4_0.
struct Chunk {
  x0: vec4f,
  x1: vec4f,
  x2: vec4f,
  x3: vec4f,
  x4: vec4f,
  x5: vec4f,
  x6: vec4f,
  x7: vec4f,
}

fn load_chunk(i: u32) -> Chunk {
  return Chunk(
    x[i * 8u + 0u] * PLACES, x[i * 8u + 1u] * PLACES,
    x[i * 8u + 2u] * PLACES, x[i * 8u + 3u] * PLACES,
    x[i * 8u + 4u] * PLACES, x[i * 8u + 5u] * PLACES,
    x[i * 8u + 6u] * PLACES, x[i * 8u + 7u] * PLACES,
  );
}

// 32-bit words that are bound.
const WEIGHT_WORDS: u32 = 4u;
@group(0) @binding(1) var<storage, read_write> weight: array<vec4u, WEIGHT_WORDS / 4u>;

// The four low nibbles, each times the power of 16 of its place, which x is divided by: masks, since SwiftShader shifts
// lane by lane, and one step a weight less than undoing it here. Every step is exact (of an x below 2^-114, bits may be
// lost).
const PLACES: vec4f = vec4f(1.0, 0x1p-4f, 0x1p-8f, 0x1p-12f);

fn nibbles(word: u32) -> vec4f {
  let placed = vec4u(word) & vec4u(0xfu, 0xf0u, 0xf00u, 0xf000u);
  return vec4f(vec4i(placed)) - vec4f(0x1p3f, 0x1p7f, 0x1p11f, 0x1p15f);
}

fn multiply_chunk(i: u32, xs: Chunk) -> vec4f {
  let words = weight[i];
  let sum = nibbles(words.x) * xs.x0 + nibbles(words.x >> 16u) * xs.x1 +
    nibbles(words.y) * xs.x2 + nibbles(words.y >> 16u) * xs.x3 +
    nibbles(words.z) * xs.x4 + nibbles(words.z >> 16u) * xs.x5 +
    nibbles(words.w) * xs.x6 + nibbles(words.w >> 16u) * xs.x7;
  return sum * load_scale(i);
}

fn load_scale_word(i: u32) -> u32 {
  return weight[i / 4u][i % 4u];
}
