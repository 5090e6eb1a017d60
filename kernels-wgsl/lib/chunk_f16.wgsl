// multiply_chunk(i, xs): products of the i-th chunk of weights with xs, summed to four partial sums. A chunk is 8
// weights stored as f16.
struct Chunk {
  x0: vec4f,
  x1: vec4f,
}

fn load_chunk(i: u32) -> Chunk {
  return Chunk(x[i * 2u + 0u], x[i * 2u + 1u]);
}

// 32-bit words that are bound.
const WEIGHT_WORDS: u32 = 4u;
@group(0) @binding(1) var<storage, read_write> weight: array<vec4u, WEIGHT_WORDS / 4u>;

fn multiply_chunk(i: u32, xs: Chunk) -> vec4f {
  let words = weight[i];
  return vec4f(unpack2x16float(words.x), unpack2x16float(words.y)) * xs.x0 +
    vec4f(unpack2x16float(words.z), unpack2x16float(words.w)) * xs.x1;
}
