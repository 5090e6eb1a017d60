// TILE_ROWS4 (at most 4) vectors of four columns of four rows of dy (zeros past the last row). Here lanes hold one vector
// of a load: lanes 0 to 3 of one row and lanes 4 to 7 of the next, so that two loads do. columns_<row>_<i> broadcasts
// them. Written out: lanes must be constant.
enable subgroups;

struct Held {
  a: vec4f,
  b: vec4f,
}

fn load_columns(row: u32, first: u32, lane: u32) -> vec4f {
  let r = row + lane % 8u / 4u;
  let c = FIRST_COLUMN4 + min(first + min(lane % 4u, TILE_ROWS4 - 1u), COLUMNS4 - 1u);
  return select(vec4f(), dy[min(r, ROWS - 1u) * DY_WIDTH4 + c], r < ROWS);
}

fn hold_columns(row: u32, first: u32, lane: u32) -> Held {
  return Held(load_columns(row, first, lane), load_columns(row + 2u, first, lane));
}

// The vector of the tile that columns_<row>_<i> gives a lane.
fn tile_vector(i: u32, lane: u32) -> u32 { return i; }

fn columns_0_0(held: Held) -> vec4f { return subgroupBroadcast(held.a, 0u); }
fn columns_0_1(held: Held) -> vec4f { return subgroupBroadcast(held.a, 1u); }
fn columns_0_2(held: Held) -> vec4f { return subgroupBroadcast(held.a, 2u); }
fn columns_0_3(held: Held) -> vec4f { return subgroupBroadcast(held.a, 3u); }
fn columns_1_0(held: Held) -> vec4f { return subgroupBroadcast(held.a, 4u); }
fn columns_1_1(held: Held) -> vec4f { return subgroupBroadcast(held.a, 5u); }
fn columns_1_2(held: Held) -> vec4f { return subgroupBroadcast(held.a, 6u); }
fn columns_1_3(held: Held) -> vec4f { return subgroupBroadcast(held.a, 7u); }
fn columns_2_0(held: Held) -> vec4f { return subgroupBroadcast(held.b, 0u); }
fn columns_2_1(held: Held) -> vec4f { return subgroupBroadcast(held.b, 1u); }
fn columns_2_2(held: Held) -> vec4f { return subgroupBroadcast(held.b, 2u); }
fn columns_2_3(held: Held) -> vec4f { return subgroupBroadcast(held.b, 3u); }
fn columns_3_0(held: Held) -> vec4f { return subgroupBroadcast(held.b, 4u); }
fn columns_3_1(held: Held) -> vec4f { return subgroupBroadcast(held.b, 5u); }
fn columns_3_2(held: Held) -> vec4f { return subgroupBroadcast(held.b, 6u); }
fn columns_3_3(held: Held) -> vec4f { return subgroupBroadcast(held.b, 7u); }
