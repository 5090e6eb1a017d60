// fold_lanes: joins what the lanes of a workgroup folded, here by the maximum.
fn fold_lanes(v: Pack, lane: u32) -> f32 {
  return reduce_max(pack_max(v), lane);
}
