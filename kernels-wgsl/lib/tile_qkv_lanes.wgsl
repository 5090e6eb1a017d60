// Column `column` of rows first to first + 7 of qkv, never past first + left. Each lane loads and holds one row;
// tile_qkv hands all to all, as often as they are needed.
alias HeldQkv = vec4f;

fn hold_qkv(first: u32, left: u32, column: u32, lane: u32) -> HeldQkv {
  return qkv[(first + min(lane, left)) * QKV4 + column];
}

fn tile_qkv(held: HeldQkv) -> Tile { return spread(held); }
