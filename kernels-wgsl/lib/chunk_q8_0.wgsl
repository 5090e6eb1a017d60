// multiply_chunk(i, xs): products of the i-th chunk of weights with xs, summed to four partial sums. A chunk is 16
// weights stored as q8_0, half a block.
const CHUNK4: u32 = 4u;

@group(0) @binding(1) var<storage, read_write> weight: array<vec4u>;

fn multiply_chunk(i: u32, xs: array<vec4f, CHUNK4>) -> vec4f {
  let words = weight[i];
  let sum = vec4f(unpack4xI8(words.x)) * xs[0] + vec4f(unpack4xI8(words.y)) * xs[1] +
    vec4f(unpack4xI8(words.z)) * xs[2] + vec4f(unpack4xI8(words.w)) * xs[3];
  return sum * load_scale(i / 2u);
}

fn load_scale_word(i: u32) -> u32 {
  return weight[i / 4u][i % 4u];
}
