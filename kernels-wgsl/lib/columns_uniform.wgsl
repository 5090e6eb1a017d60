// TILE_ROWS4 vectors of four columns of dy, one row at a time. Here every invocation loads all of them; the
// address is the same in the whole workgroup.
const HELD_ROWS: u32 = 1u;

var<private> held: array<vec4f, TILE_ROWS4>;

fn hold_columns(row: u32, first: u32, lane: u32) {
  for (var i = 0u; i < TILE_ROWS4; i++) {
    held[i] = dy[row * DY_WIDTH4 + FIRST_COLUMN4 + min(first + i, COLUMNS4 - 1u)];
  }
}

fn held_columns(step: u32, i: u32) -> vec4f {
  return held[i];
}
