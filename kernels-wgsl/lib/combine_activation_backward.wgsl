// combine(a, b) of binary.wgsl, here the gradient through an activation: a is dy, b is x.
fn combine(a: Pack, b: Pack) -> Pack {
  return a * activation_derivative_pack(b);
}
