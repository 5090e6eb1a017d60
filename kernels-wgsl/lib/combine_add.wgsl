// combine(a, b) of binary.wgsl, here the sum.
fn combine(a: Pack, b: Pack) -> Pack {
  return a + b;
}
