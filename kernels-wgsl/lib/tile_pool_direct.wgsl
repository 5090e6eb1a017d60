// One vec4 of eight cached keys or values, DIM4 apart from `at` on; only slots low to high are touched. The same
// addresses in every lane.
fn tile_key(at: u32, low: u32, high: u32, lane: u32) -> Tile {
  let i = at + clamp(INDEX_LOW, vec4u(low), vec4u(high)) * DIM4;
  let j = at + clamp(INDEX_HIGH, vec4u(low), vec4u(high)) * DIM4;
  return Tile(load_key(i.x), load_key(i.y), load_key(i.z), load_key(i.w), load_key(j.x), load_key(j.y), load_key(j.z), load_key(j.w));
}

fn tile_value(at: u32, low: u32, high: u32, lane: u32) -> Tile {
  let i = at + clamp(INDEX_LOW, vec4u(low), vec4u(high)) * DIM4;
  let j = at + clamp(INDEX_HIGH, vec4u(low), vec4u(high)) * DIM4;
  return Tile(load_value(i.x), load_value(i.y), load_value(i.z), load_value(i.w), load_value(j.x), load_value(j.y), load_value(j.z), load_value(j.w));
}
