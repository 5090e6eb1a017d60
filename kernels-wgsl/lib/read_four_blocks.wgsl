// read_four(i): elements 4i to 4i+3 of a tensor in blocks as bits of f32, by its lib/weight_* module.
fn read_four(i: u32) -> vec4u {
  return bitcast<vec4u>(load_weight4(i));
}
