// TILE_ROWS rows of `rows`, four elements of each at a time. Here lane i of the (one) subgroup holds row i, and
// held_row(i) broadcasts it: one 16-byte load per lane serves a whole tile.
enable subgroups;
const HELD: u32 = (TILE_ROWS + LANES - 1u) / LANES;

var<private> held: array<vec4f, HELD>;

fn hold_rows(first: u32, column: u32, lane: u32) {
  for (var i = 0u; i < HELD; i++) {
    held[i] = rows[min(first + min(i * LANES + lane, TILE_ROWS - 1u), ROWS - 1u) * ROW_WIDTH4 + column];
  }
}

fn held_row(i: u32) -> vec4f {
  return subgroupShuffle(held[i / LANES], i % LANES);
}
