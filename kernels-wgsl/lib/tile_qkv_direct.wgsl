// Column `column` of rows first to first + 7 of qkv, never past first + left. Every lane loads all of them, from
// the same addresses, whenever they are needed.
struct HeldQkv { at: u32, left: u32 }

fn hold_qkv(first: u32, left: u32, column: u32, lane: u32) -> HeldQkv {
  return HeldQkv(first * QKV4 + column, left);
}

fn tile_qkv(held: HeldQkv) -> Tile {
  var t: array<vec4f, 8>;
  for (var j = 0u; j < eight(); j++) { t[j] = qkv[held.at + min(j, held.left) * QKV4]; }
  return Tile(t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]);
}
