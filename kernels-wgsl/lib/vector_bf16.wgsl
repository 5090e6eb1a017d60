// load_vector(i): element i of a one-dimensional parameter (norm weight, bias) stored as bf16.
@group(0) @binding(1) var<storage, read_write> vector: array<u32>;

fn load_vector(i: u32) -> f32 {
  let word = vector[i / 2u];
  return bitcast<f32>(select(word << 16u, word & 0xffff0000u, (i & 1u) == 1u));
}
