// add_bias(sum, column): bias stored as f32.
const BIAS_BINDING: u32 = 3u;

@group(0) @binding(BIAS_BINDING) var<storage, read_write> bias: array<f32>;

fn add_bias(sum: f32, column: u32) -> f32 {
  return sum + bias[column];
}
