// The activation hooks on a Pack of one element.
fn activation_pack(v: Pack) -> Pack {
  return activation(v);
}

fn activation_derivative_pack(v: Pack) -> Pack {
  return activation_derivative(v);
}
