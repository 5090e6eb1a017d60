// One vec4 of eight cached keys or values, DIM4 apart from `at` on; only slots low to high are touched. Every lane
// loads all of them, from the same addresses.
fn tile_key(at: u32, low: u32, high: u32, lane: u32) -> Tile {
  var t: array<vec4f, 8>;
  for (var j = 0u; j < eight(); j++) { t[j] = load_key(at + clamp(j, low, high) * DIM4); }
  return Tile(t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]);
}

fn tile_value(at: u32, low: u32, high: u32, lane: u32) -> Tile {
  var t: array<vec4f, 8>;
  for (var j = 0u; j < eight(); j++) { t[j] = load_value(at + clamp(j, low, high) * DIM4); }
  return Tile(t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]);
}
