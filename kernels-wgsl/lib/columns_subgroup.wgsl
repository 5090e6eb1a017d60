// TILE_ROWS4 (at most 4) vectors of four columns of dy, HELD_ROWS rows at a time (zeros past the last row). Here each
// lane holds one vector, lanes 0 to 3 of the first row and lanes 4 to 7 of the second, and columns_<row>_<i>
// broadcasts it. Written out: SwiftShader needs constant lanes.
enable subgroups;
const HELD_ROWS: u32 = min(LANES, 8u) / 4u;

fn hold_columns(row: u32, first: u32, lane: u32) -> vec4f {
  let r = row + lane % 8u / 4u;
  let c = FIRST_COLUMN4 + min(first + min(lane % 4u, TILE_ROWS4 - 1u), COLUMNS4 - 1u);
  return select(vec4f(), dy[min(r, ROWS - 1u) * DY_WIDTH4 + c], r < ROWS);
}

fn columns_0_0(held: vec4f) -> vec4f { return subgroupBroadcast(held, 0u % LANES); }
fn columns_0_1(held: vec4f) -> vec4f { return subgroupBroadcast(held, 1u % LANES); }
fn columns_0_2(held: vec4f) -> vec4f { return subgroupBroadcast(held, 2u % LANES); }
fn columns_0_3(held: vec4f) -> vec4f { return subgroupBroadcast(held, 3u % LANES); }
fn columns_1_0(held: vec4f) -> vec4f { return subgroupBroadcast(held, 4u % LANES); }
fn columns_1_1(held: vec4f) -> vec4f { return subgroupBroadcast(held, 5u % LANES); }
fn columns_1_2(held: vec4f) -> vec4f { return subgroupBroadcast(held, 6u % LANES); }
fn columns_1_3(held: vec4f) -> vec4f { return subgroupBroadcast(held, 7u % LANES); }
