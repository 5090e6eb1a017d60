// fold hooks of reduce, here the maximum; the start is the lowest f32.
const FOLD_START: f32 = -0x1.fffffep+127f;

fn fold(a: Pack, b: Pack) -> Pack {
  return max(a, b);
}
