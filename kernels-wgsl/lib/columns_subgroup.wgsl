// TILE_ROWS4 (at most 4) vectors of four columns of four rows of dy (zeros past the last row). Here each lane holds one
// vector of a load: with eight lanes and more, lanes 0 to 3 of one row and lanes 4 to 7 of the next, so that two loads
// do; with four, one row. columns_<row>_<i> broadcasts them. Written out: SwiftShader needs constant lanes.
enable subgroups;
const LOADED_ROWS: u32 = min(LANES, 8u) / 4u;

struct Held {
  a: vec4f,
  b: vec4f,
  c: vec4f,
  d: vec4f,
}

fn load_columns(row: u32, first: u32, lane: u32) -> vec4f {
  let r = row + lane % (4u * LOADED_ROWS) / 4u;
  let c = FIRST_COLUMN4 + min(first + min(lane % 4u, TILE_ROWS4 - 1u), COLUMNS4 - 1u);
  return select(vec4f(), dy[min(r, ROWS - 1u) * DY_WIDTH4 + c], r < ROWS);
}

fn hold_columns(row: u32, first: u32, lane: u32) -> Held {
  var held: Held;
  held.a = load_columns(row, first, lane);
  held.b = load_columns(row + LOADED_ROWS, first, lane);
  if (LOADED_ROWS == 1u) {
    held.c = load_columns(row + 2u, first, lane);
    held.d = load_columns(row + 3u, first, lane);
  }
  return held;
}

fn columns_0_0(held: Held) -> vec4f { return subgroupBroadcast(held.a, 0u); }
fn columns_0_1(held: Held) -> vec4f { return subgroupBroadcast(held.a, 1u); }
fn columns_0_2(held: Held) -> vec4f { return subgroupBroadcast(held.a, 2u); }
fn columns_0_3(held: Held) -> vec4f { return subgroupBroadcast(held.a, 3u); }
fn columns_1_0(held: Held) -> vec4f {
  if (LOADED_ROWS == 2u) { return subgroupBroadcast(held.a, 4u % LANES); }
  return subgroupBroadcast(held.b, 0u);
}
fn columns_1_1(held: Held) -> vec4f {
  if (LOADED_ROWS == 2u) { return subgroupBroadcast(held.a, 5u % LANES); }
  return subgroupBroadcast(held.b, 1u);
}
fn columns_1_2(held: Held) -> vec4f {
  if (LOADED_ROWS == 2u) { return subgroupBroadcast(held.a, 6u % LANES); }
  return subgroupBroadcast(held.b, 2u);
}
fn columns_1_3(held: Held) -> vec4f {
  if (LOADED_ROWS == 2u) { return subgroupBroadcast(held.a, 7u % LANES); }
  return subgroupBroadcast(held.b, 3u);
}
fn columns_2_0(held: Held) -> vec4f {
  if (LOADED_ROWS == 2u) { return subgroupBroadcast(held.b, 0u % LANES); }
  return subgroupBroadcast(held.c, 0u);
}
fn columns_2_1(held: Held) -> vec4f {
  if (LOADED_ROWS == 2u) { return subgroupBroadcast(held.b, 1u % LANES); }
  return subgroupBroadcast(held.c, 1u);
}
fn columns_2_2(held: Held) -> vec4f {
  if (LOADED_ROWS == 2u) { return subgroupBroadcast(held.b, 2u % LANES); }
  return subgroupBroadcast(held.c, 2u);
}
fn columns_2_3(held: Held) -> vec4f {
  if (LOADED_ROWS == 2u) { return subgroupBroadcast(held.b, 3u % LANES); }
  return subgroupBroadcast(held.c, 3u);
}
fn columns_3_0(held: Held) -> vec4f {
  if (LOADED_ROWS == 2u) { return subgroupBroadcast(held.b, 4u % LANES); }
  return subgroupBroadcast(held.d, 0u);
}
fn columns_3_1(held: Held) -> vec4f {
  if (LOADED_ROWS == 2u) { return subgroupBroadcast(held.b, 5u % LANES); }
  return subgroupBroadcast(held.d, 1u);
}
fn columns_3_2(held: Held) -> vec4f {
  if (LOADED_ROWS == 2u) { return subgroupBroadcast(held.b, 6u % LANES); }
  return subgroupBroadcast(held.d, 2u);
}
fn columns_3_3(held: Held) -> vec4f {
  if (LOADED_ROWS == 2u) { return subgroupBroadcast(held.b, 7u % LANES); }
  return subgroupBroadcast(held.d, 3u);
}
