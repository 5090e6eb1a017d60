// One vec4 of eight cached keys or values, DIM4 apart from `at` on; only slots low to high are touched. One slot
// is loaded by each lane.
fn tile_key(at: u32, low: u32, high: u32, lane: u32) -> Tile {
  return spread(load_key(at + clamp(lane, low, high) * DIM4));
}

fn tile_value(at: u32, low: u32, high: u32, lane: u32) -> Tile {
  return spread(load_value(at + clamp(lane, low, high) * DIM4));
}
