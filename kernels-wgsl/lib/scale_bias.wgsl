// affine(v, i): the learned part of a norm on pack i of a row, here a weight and a bias (layer_norm).
const FIRST_COLUMN: u32 = 0u; // where a row starts in the bias, for load_bias

fn affine(v: Pack, i: u32) -> Pack {
  return v * load_pack(i) + load_bias_pack(i);
}
