// activate(v): the activation of an epilogue, here gelu_tanh of lib/activation.
fn activate(v: f32) -> f32 {
  return gelu_tanh(v);
}
