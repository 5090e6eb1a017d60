// activation(v) and its derivative, here silu of lib/activation.
fn activation(v: f32) -> f32 {
  return silu(v);
}

fn activation_derivative(v: f32) -> f32 {
  return silu_derivative(v);
}
