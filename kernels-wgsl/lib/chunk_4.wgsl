// multiply_chunk(i, xs): products of the i-th chunk of weights with xs, summed to four partial sums. Here a chunk
// is four weights of any format: used where rows are short or not a multiple of 16 bytes.
const CHUNK4: u32 = 1u;

fn multiply_chunk(i: u32, xs: array<vec4f, CHUNK4>) -> vec4f {
  return load_weight4(i) * xs[0];
}
