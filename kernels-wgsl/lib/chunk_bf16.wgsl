// multiply_chunk(i, xs): products of the i-th chunk of weights with xs, summed to four partial sums. A chunk is 8
// weights stored as bf16.
const CHUNK4: u32 = 2u;

@group(0) @binding(1) var<storage, read_write> weight: array<vec4u>;

fn multiply_chunk(i: u32, xs: array<vec4f, CHUNK4>) -> vec4f {
  let words = weight[i];
  let low = bitcast<vec4f>(words << vec4u(16u));
  let high = bitcast<vec4f>(words & vec4u(0xffff0000u));
  return vec4f(low.x, high.x, low.y, high.y) * xs[0] + vec4f(low.z, high.z, low.w, high.w) * xs[1];
}
