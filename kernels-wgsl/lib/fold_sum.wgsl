// fold hooks of reduce, here the sum.
const FOLD_START: f32 = 0.0f;

fn fold(a: Pack, b: Pack) -> Pack {
  return a + b;
}
