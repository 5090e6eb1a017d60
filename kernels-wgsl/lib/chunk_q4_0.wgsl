// multiply_chunk(i, xs): products of the i-th chunk of weights with xs, summed to four partial sums. A chunk is a
// block of 32 weights stored as q4_0.
const CHUNK4: u32 = 8u;

@group(0) @binding(1) var<storage, read_write> weight: array<vec4u>;

fn nibbles(word: u32) -> vec4f {
  return vec4f((vec4u(word) >> vec4u(0u, 4u, 8u, 12u)) & vec4u(15u)) - 8.0;
}

fn multiply_chunk(i: u32, xs: array<vec4f, CHUNK4>) -> vec4f {
  let words = weight[i];
  let sum = nibbles(words.x) * xs[0] + nibbles(words.x >> 16u) * xs[1] +
    nibbles(words.y) * xs[2] + nibbles(words.y >> 16u) * xs[3] +
    nibbles(words.z) * xs[4] + nibbles(words.z >> 16u) * xs[5] +
    nibbles(words.w) * xs[6] + nibbles(words.w >> 16u) * xs[7];
  return sum * load_scale(i);
}

fn load_scale_word(i: u32) -> u32 {
  return weight[i / 4u][i % 4u];
}
