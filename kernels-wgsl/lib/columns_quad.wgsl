// TILE_ROWS4 (1, 2 or 4) vectors of four columns of four rows of dy (zeros past the last row). Here the four lanes of a
// subgroup hold one vector of each row and exchange them: columns_<row>_<i> gives a lane vector i xor its own place, so
// that every lane meets all vectors, each in an order of its own. Why: lib/rows_quad.
enable subgroups;

struct Held {
  a: vec4f,
  b: vec4f,
  c: vec4f,
  d: vec4f,
}

fn load_columns(row: u32, first: u32, lane: u32) -> vec4f {
  let c = FIRST_COLUMN4 + min(first + lane % TILE_ROWS4, COLUMNS4 - 1u);
  return select(vec4f(), dy[min(row, ROWS - 1u) * DY_WIDTH4 + c], row < ROWS);
}

fn hold_columns(row: u32, first: u32, lane: u32) -> Held {
  return Held(
    load_columns(row + 0u, first, lane),
    load_columns(row + 1u, first, lane),
    load_columns(row + 2u, first, lane),
    load_columns(row + 3u, first, lane),
  );
}

// The vector of the tile that columns_<row>_<i> gives a lane.
fn tile_vector(i: u32, lane: u32) -> u32 { return i ^ (lane % TILE_ROWS4); }

fn columns_0_0(held: Held) -> vec4f { return held.a; }
fn columns_0_1(held: Held) -> vec4f { return quadSwapX(held.a); }
fn columns_0_2(held: Held) -> vec4f { return quadSwapY(held.a); }
fn columns_0_3(held: Held) -> vec4f { return quadSwapDiagonal(held.a); }
fn columns_1_0(held: Held) -> vec4f { return held.b; }
fn columns_1_1(held: Held) -> vec4f { return quadSwapX(held.b); }
fn columns_1_2(held: Held) -> vec4f { return quadSwapY(held.b); }
fn columns_1_3(held: Held) -> vec4f { return quadSwapDiagonal(held.b); }
fn columns_2_0(held: Held) -> vec4f { return held.c; }
fn columns_2_1(held: Held) -> vec4f { return quadSwapX(held.c); }
fn columns_2_2(held: Held) -> vec4f { return quadSwapY(held.c); }
fn columns_2_3(held: Held) -> vec4f { return quadSwapDiagonal(held.c); }
fn columns_3_0(held: Held) -> vec4f { return held.d; }
fn columns_3_1(held: Held) -> vec4f { return quadSwapX(held.d); }
fn columns_3_2(held: Held) -> vec4f { return quadSwapY(held.d); }
fn columns_3_3(held: Held) -> vec4f { return quadSwapDiagonal(held.d); }
