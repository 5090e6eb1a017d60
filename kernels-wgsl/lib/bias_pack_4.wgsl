// load_bias_pack(i): the i-th pack of a bias, here four elements of any format.
fn load_bias_pack(i: u32) -> Pack {
  let c = 4u * i;
  return vec4f(load_bias(c), load_bias(c + 1u), load_bias(c + 2u), load_bias(c + 3u));
}
