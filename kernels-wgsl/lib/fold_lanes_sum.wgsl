// fold_lanes: joins what the lanes of a workgroup folded, here by the sum.
fn fold_lanes(v: Pack, lane: u32) -> f32 {
  return reduce_add(pack_sum(v), lane);
}
