// activation(v) and its derivative, here gelu_tanh of lib/activation.
fn activation(v: f32) -> f32 {
  return gelu_tanh(v);
}

fn activation_derivative(v: f32) -> f32 {
  return gelu_tanh_derivative(v);
}
