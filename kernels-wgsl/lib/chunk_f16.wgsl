// multiply_chunk(i, xs): products of the i-th chunk of weights with xs, summed to four partial sums. A chunk is 8
// weights stored as f16.
const CHUNK4: u32 = 2u;

@group(0) @binding(1) var<storage, read_write> weight: array<vec4u>;

fn multiply_chunk(i: u32, xs: array<vec4f, CHUNK4>) -> vec4f {
  let words = weight[i];
  return vec4f(unpack2x16float(words.x), unpack2x16float(words.y)) * xs[0] +
    vec4f(unpack2x16float(words.z), unpack2x16float(words.w)) * xs[1];
}
