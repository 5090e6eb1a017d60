// combine(a, b) of binary.wgsl, here the product.
fn combine(a: Pack, b: Pack) -> Pack {
  return a * b;
}
