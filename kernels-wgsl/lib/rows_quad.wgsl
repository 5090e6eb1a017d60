// TILE_ROWS (1, 2, 4, 8, 12 or 16) rows of `rows`, four elements of each at a time. Here the four lanes of a subgroup hold
// one row each and exchange them: row_<i> gives a lane row i xor its own place, so that every lane meets all rows, each
// in an order of its own. SwiftShader swaps by one shuffle; its broadcasts, done by masks, made nearly half the time of a
// product.
enable subgroups;
const QUAD_ROWS: u32 = min(TILE_ROWS, 4u);

struct Held {
  a: vec4f,
  b: vec4f,
  c: vec4f,
  d: vec4f,
}

fn load_row(row: u32, column: u32) -> vec4f {
  return rows[min(row, ROWS - 1u) * ROW_WIDTH4 + column];
}

fn hold_rows(first: u32, column: u32, lane: u32) -> Held {
  let row = first + lane % QUAD_ROWS;
  var h: Held;
  h.a = load_row(row, column);
  if (TILE_ROWS > 4u) { h.b = load_row(row + 4u, column); }
  if (TILE_ROWS > 8u) { h.c = load_row(row + 8u, column); }
  if (TILE_ROWS > 12u) { h.d = load_row(row + 12u, column); }
  return h;
}

// The row of the tile that row_<i> gives a lane.
fn tile_row(i: u32, lane: u32) -> u32 { return i ^ (lane % QUAD_ROWS); }

fn row_0(h: Held) -> vec4f { return h.a; }
fn row_1(h: Held) -> vec4f { return quadSwapX(h.a); }
fn row_2(h: Held) -> vec4f { return quadSwapY(h.a); }
fn row_3(h: Held) -> vec4f { return quadSwapDiagonal(h.a); }
fn row_4(h: Held) -> vec4f { return h.b; }
fn row_5(h: Held) -> vec4f { return quadSwapX(h.b); }
fn row_6(h: Held) -> vec4f { return quadSwapY(h.b); }
fn row_7(h: Held) -> vec4f { return quadSwapDiagonal(h.b); }
fn row_8(h: Held) -> vec4f { return h.c; }
fn row_9(h: Held) -> vec4f { return quadSwapX(h.c); }
fn row_10(h: Held) -> vec4f { return quadSwapY(h.c); }
fn row_11(h: Held) -> vec4f { return quadSwapDiagonal(h.c); }
fn row_12(h: Held) -> vec4f { return h.d; }
fn row_13(h: Held) -> vec4f { return quadSwapX(h.d); }
fn row_14(h: Held) -> vec4f { return quadSwapY(h.d); }
fn row_15(h: Held) -> vec4f { return quadSwapDiagonal(h.d); }
