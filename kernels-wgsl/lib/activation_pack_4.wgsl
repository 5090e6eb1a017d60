// The activation hooks on each element of a Pack of four.
fn activation_pack(v: Pack) -> Pack {
  return vec4f(activation(v.x), activation(v.y), activation(v.z), activation(v.w));
}

fn activation_derivative_pack(v: Pack) -> Pack {
  return vec4f(
    activation_derivative(v.x),
    activation_derivative(v.y),
    activation_derivative(v.z),
    activation_derivative(v.w),
  );
}
