// load_bias(column): bias of an output column, stored as f32.
const BIAS_BINDING: u32 = 3u;

@group(0) @binding(BIAS_BINDING) var<storage, read_write> bias: array<f32>;

fn load_bias(column: u32) -> f32 {
  return bias[FIRST_COLUMN + column];
}
