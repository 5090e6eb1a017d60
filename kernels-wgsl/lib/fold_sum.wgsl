// fold hooks of reduce, here the sum.
const FOLD_START: f32 = 0.0f;

fn fold(a: Pack, b: Pack) -> Pack {
  return a + b;
}

fn fold_lanes(v: Pack, lane: u32) -> f32 {
  return reduce_add(pack_sum(v), lane);
}
