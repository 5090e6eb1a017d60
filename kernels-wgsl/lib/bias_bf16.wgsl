// add_bias(sum, column): bias stored as bf16, two to a word.
const BIAS_BINDING: u32 = 3u;

@group(0) @binding(BIAS_BINDING) var<storage, read_write> bias: array<u32>;

fn add_bias(sum: f32, column: u32) -> f32 {
  let word = bias[column / 2u];
  return sum + bitcast<f32>(select(word << 16u, word & 0xffff0000u, (column & 1u) == 1u));
}
