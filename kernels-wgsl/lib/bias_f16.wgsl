// add_bias(sum, column): bias stored as f16, two to a word.
const BIAS_BINDING: u32 = 3u;

@group(0) @binding(BIAS_BINDING) var<storage, read_write> bias: array<u32>;

fn add_bias(sum: f32, column: u32) -> f32 {
  let pair = unpack2x16float(bias[column / 2u]);
  return sum + select(pair.x, pair.y, (column & 1u) == 1u);
}
