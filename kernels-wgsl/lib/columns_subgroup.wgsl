// TILE_ROWS4 vectors of four columns of dy, HELD_ROWS rows at a time (zeros past the last row). Here each lane of
// the (one) subgroup holds one vector and held_columns(step, i) broadcasts it.
enable subgroups;
const HELD_ROWS: u32 = LANES / TILE_ROWS4;

var<private> held: vec4f;

fn hold_columns(row: u32, first: u32, lane: u32) {
  let r = row + lane / TILE_ROWS4;
  let c = FIRST_COLUMN4 + min(first + lane % TILE_ROWS4, COLUMNS4 - 1u);
  held = select(vec4f(), dy[min(r, ROWS - 1u) * DY_WIDTH4 + c], r < ROWS);
}

fn held_columns(step: u32, i: u32) -> vec4f {
  return subgroupShuffle(held, step * TILE_ROWS4 + i);
}
