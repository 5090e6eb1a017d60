// multiply_chunk(i, xs): products of the i-th chunk of weights with xs, summed to four partial sums. A chunk is 16
// weights stored as q8_0, half a block.
struct Chunk {
  x0: vec4f,
  x1: vec4f,
  x2: vec4f,
  x3: vec4f,
}

fn load_chunk(i: u32) -> Chunk {
  return Chunk(x[i * 4u + 0u], x[i * 4u + 1u], x[i * 4u + 2u], x[i * 4u + 3u]);
}

@group(0) @binding(1) var<storage, read_write> weight: array<vec4u>;

fn multiply_chunk(i: u32, xs: Chunk) -> vec4f {
  let words = weight[i];
  let sum = vec4f(unpack4xI8(words.x)) * xs.x0 + vec4f(unpack4xI8(words.y)) * xs.x1 +
    vec4f(unpack4xI8(words.z)) * xs.x2 + vec4f(unpack4xI8(words.w)) * xs.x3;
  return sum * load_scale(i / 2u);
}

fn load_scale_word(i: u32) -> u32 {
  return weight[i / 4u][i % 4u];
}
