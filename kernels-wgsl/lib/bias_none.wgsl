// add_bias(sum, column) when there is no bias.
fn add_bias(sum: f32, column: u32) -> f32 {
  return sum;
}
