// load_bias_pack(i): the i-th pack of a bias, here one element.
fn load_bias_pack(i: u32) -> Pack {
  return load_bias(i);
}
