// load_vector(i): element i of a one-dimensional parameter (norm weight, bias) stored as f16.
@group(0) @binding(1) var<storage, read_write> vector: array<u32>;

fn load_vector(i: u32) -> f32 {
  let pair = unpack2x16float(vector[i / 2u]);
  return select(pair.x, pair.y, (i & 1u) == 1u);
}
