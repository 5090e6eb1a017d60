// load_bias(column): bias of an output column, stored as f16, two to a word.
const BIAS_BINDING: u32 = 3u;

@group(0) @binding(BIAS_BINDING) var<storage, read_write> bias: array<u32>;

fn load_bias(column: u32) -> f32 {
  let pair = unpack2x16float(bias[(FIRST_COLUMN + column) / 2u]);
  return select(pair.x, pair.y, ((FIRST_COLUMN + column) & 1u) == 1u);
}
