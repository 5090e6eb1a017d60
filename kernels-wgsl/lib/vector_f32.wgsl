// load_vector(i): element i of a one-dimensional parameter (norm weight, bias) stored as f32.
@group(0) @binding(1) var<storage, read_write> vector: array<f32>;

fn load_vector(i: u32) -> f32 {
  return vector[i];
}
