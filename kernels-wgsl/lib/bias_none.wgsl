// load_bias(column) when there is no bias.
fn load_bias(column: u32) -> f32 {
  return 0.0;
}
