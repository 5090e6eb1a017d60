// activate(v): the activation of an epilogue, here silu of lib/activation.
fn activate(v: f32) -> f32 {
  return silu(v);
}
