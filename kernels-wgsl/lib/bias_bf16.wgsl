// load_bias(column): bias of an output column, stored as bf16, two to a word.
const BIAS_BINDING: u32 = 3u;

@group(0) @binding(BIAS_BINDING) var<storage, read_write> bias: array<u32>;

fn load_bias(column: u32) -> f32 {
  let word = bias[(FIRST_COLUMN + column) / 2u];
  return bitcast<f32>(select(word << 16u, word & 0xffff0000u, ((FIRST_COLUMN + column) & 1u) == 1u));
}
