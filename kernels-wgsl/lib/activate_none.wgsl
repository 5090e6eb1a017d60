// activate(v): the activation of an epilogue, here none.
fn activate(v: f32) -> f32 {
  return v;
}
