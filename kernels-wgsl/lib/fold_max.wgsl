// fold hooks of reduce, here the maximum; the start is the lowest f32.
const FOLD_START: f32 = -0x1.fffffep+127f;

fn fold(a: Pack, b: Pack) -> Pack {
  return max(a, b);
}

fn fold_lanes(v: Pack, lane: u32) -> f32 {
  return reduce_max(pack_max(v), lane);
}
