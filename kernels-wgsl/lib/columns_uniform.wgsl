// TILE_ROWS4 (here at most 2) vectors of four columns of four rows of dy (zeros past the last row). Every invocation
// loads all of them; the addresses are the same in the whole workgroup.
struct Held {
  a0: vec4f,
  a1: vec4f,
  b0: vec4f,
  b1: vec4f,
  c0: vec4f,
  c1: vec4f,
  d0: vec4f,
  d1: vec4f,
}

fn load_columns(row: u32, column: u32) -> vec4f {
  let at = min(row, ROWS - 1u) * DY_WIDTH4 + FIRST_COLUMN4 + min(column, COLUMNS4 - 1u);
  return select(vec4f(), dy[at], row < ROWS);
}

fn hold_columns(row: u32, first: u32, lane: u32) -> Held {
  return Held(
    load_columns(row, first),
    load_columns(row, first + 1u),
    load_columns(row + 1u, first),
    load_columns(row + 1u, first + 1u),
    load_columns(row + 2u, first),
    load_columns(row + 2u, first + 1u),
    load_columns(row + 3u, first),
    load_columns(row + 3u, first + 1u),
  );
}

// The vector of the tile that columns_<row>_<i> gives a lane.
fn tile_vector(i: u32, lane: u32) -> u32 { return i; }

fn columns_0_0(held: Held) -> vec4f { return held.a0; }
fn columns_0_1(held: Held) -> vec4f { return held.a1; }
fn columns_0_2(held: Held) -> vec4f { return vec4f(); }
fn columns_0_3(held: Held) -> vec4f { return vec4f(); }
fn columns_1_0(held: Held) -> vec4f { return held.b0; }
fn columns_1_1(held: Held) -> vec4f { return held.b1; }
fn columns_1_2(held: Held) -> vec4f { return vec4f(); }
fn columns_1_3(held: Held) -> vec4f { return vec4f(); }
fn columns_2_0(held: Held) -> vec4f { return held.c0; }
fn columns_2_1(held: Held) -> vec4f { return held.c1; }
fn columns_2_2(held: Held) -> vec4f { return vec4f(); }
fn columns_2_3(held: Held) -> vec4f { return vec4f(); }
fn columns_3_0(held: Held) -> vec4f { return held.d0; }
fn columns_3_1(held: Held) -> vec4f { return held.d1; }
fn columns_3_2(held: Held) -> vec4f { return vec4f(); }
fn columns_3_3(held: Held) -> vec4f { return vec4f(); }
