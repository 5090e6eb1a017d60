// multiply_chunk(i, xs): products of the i-th chunk of weights with xs, summed to four partial sums. Here a chunk
// is four weights of any format: used where rows are short or not a multiple of 16 bytes.
struct Chunk {
  x0: vec4f,
}

fn load_chunk(i: u32) -> Chunk {
  return Chunk(x[i]);
}

fn multiply_chunk(i: u32, xs: Chunk) -> vec4f {
  return load_weight4(i) * xs.x0;
}
