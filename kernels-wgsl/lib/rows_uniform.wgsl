// TILE_ROWS rows of `rows`, four elements of each at a time. Here every invocation loads all of them; the
// address is the same in the whole workgroup.
var<private> held: array<vec4f, TILE_ROWS>;

fn hold_rows(first: u32, column: u32, lane: u32) {
  for (var i = 0u; i < TILE_ROWS; i++) {
    held[i] = rows[min(first + i, ROWS - 1u) * ROW_WIDTH4 + column];
  }
}

fn held_row(i: u32) -> vec4f {
  return held[i];
}
