// Which four columns of y a lane of matmul_tile owns, and how it writes them: here adjacent ones, one 16-byte
// store. COLUMNS, FIRST_COLUMN and Y_WIDTH are multiples of four.
fn tile_columns(tile: u32, lane: u32) -> vec4u {
  return vec4u((tile * LANES + lane) * 4u) + vec4u(0u, 1u, 2u, 3u);
}

fn pack_index(row: u32, tile: u32, lane: u32) -> u32 {
  return (row * Y_WIDTH + FIRST_COLUMN) / 4u + tile * LANES + lane;
}

fn store_sums(row: u32, tile: u32, lane: u32, sums: vec4f) {
  if (tile * LANES + lane < COLUMNS / 4u) { y[pack_index(row, tile, lane)] = sums; }
}

fn finish_sums(row: u32, tile: u32, lane: u32) {
  if (tile * LANES + lane >= COLUMNS / 4u) { return; }
  let at = pack_index(row, tile, lane);
  let v = y[at];
  y[at] = add_residual(vec4f(activate(v.x), activate(v.y), activate(v.z), activate(v.w)), at);
}
