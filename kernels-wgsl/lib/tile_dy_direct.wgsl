// Column `column` of rows first to first + 7 of dy; every lane loads all.
struct HeldDy { at: u32, left: u32 }

fn hold_dy(first: u32, left: u32, column: u32, lane: u32) -> HeldDy {
  return HeldDy(first * HEADS * DIM4 + column, left);
}

fn tile_dy(held: HeldDy) -> Tile {
  var t: array<vec4f, 8>;
  for (var j = 0u; j < eight(); j++) { t[j] = dy[held.at + min(j, held.left) * HEADS * DIM4]; }
  return Tile(t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]);
}
