// Column `column` of rows first to first + 7 of qkv, never past first + left. Every lane loads all of them, from
// the same addresses, whenever they are needed.
struct HeldQkv { at: u32, left: u32 }

fn hold_qkv(first: u32, left: u32, column: u32, lane: u32) -> HeldQkv {
  return HeldQkv(first * QKV4 + column, left);
}

fn tile_qkv(held: HeldQkv) -> Tile {
  let i = held.at + min(INDEX_LOW, vec4u(held.left)) * QKV4;
  let j = held.at + min(INDEX_HIGH, vec4u(held.left)) * QKV4;
  return Tile(qkv[i.x], qkv[i.y], qkv[i.z], qkv[i.w], qkv[j.x], qkv[j.y], qkv[j.z], qkv[j.w]);
}
