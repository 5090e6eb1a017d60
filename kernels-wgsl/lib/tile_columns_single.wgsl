// Which four columns of y a lane of matmul_tile owns, and how it writes them: here LANES apart, so that any number
// of columns will do and neighbouring lanes write neighbouring elements.
fn tile_columns(tile: u32, lane: u32) -> vec4u {
  return vec4u(tile * LANES * 4u + lane) + LANES * vec4u(0u, 1u, 2u, 3u);
}

fn store_sums(row: u32, tile: u32, lane: u32, sums: vec4f) {
  let columns = tile_columns(tile, lane);
  let start = row * Y_WIDTH + FIRST_COLUMN;
  for (var j = 0u; j < 4u; j++) {
    if (columns[j] < COLUMNS) { y[start + columns[j]] = sums[j]; }
  }
}

fn finish_sums(row: u32, tile: u32, lane: u32) {
  let columns = tile_columns(tile, lane);
  for (var j = 0u; j < 4u; j++) {
    let at = row * Y_WIDTH + FIRST_COLUMN + columns[j];
    if (columns[j] < COLUMNS) { y[at] = add_residual(activate(y[at]), at); }
  }
}
