// affine(v, i): the learned part of a norm on pack i of a row, here a weight alone (rms_norm).
fn affine(v: Pack, i: u32) -> Pack {
  return v * load_pack(i);
}
