// add_residual(v, index) when there is no residual.
fn add_residual(v: f32, index: u32) -> f32 {
  return v;
}
