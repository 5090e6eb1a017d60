// multiply_chunk(i, xs): products of the i-th chunk of weights with xs, summed to four partial sums. A chunk is 8
// weights stored as bf16.
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
  let low = bitcast<vec4f>(words << vec4u(16u));
  let high = bitcast<vec4f>(words & vec4u(0xffff0000u));
  return vec4f(low.x, high.x, low.y, high.y) * xs.x0 + vec4f(low.z, high.z, low.w, high.w) * xs.x1;
}
