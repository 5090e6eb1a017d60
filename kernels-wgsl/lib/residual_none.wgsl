// add_residual(v, index) when there is no residual.
fn add_residual(v: Pack, index: u32) -> Pack {
  return v;
}
