// TILE_ROWS (here at most 8) rows of `rows`, four elements of each at a time. Every invocation loads all of them;
// the address is the same in the whole workgroup.
struct Held {
  r0: vec4f,
  r1: vec4f,
  r2: vec4f,
  r3: vec4f,
  r4: vec4f,
  r5: vec4f,
  r6: vec4f,
  r7: vec4f,
}

fn hold_rows(first: u32, column: u32, lane: u32) -> Held {
  var h: Held;
  if (TILE_ROWS > 0u) { h.r0 = rows[min(first + 0u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  if (TILE_ROWS > 1u) { h.r1 = rows[min(first + 1u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  if (TILE_ROWS > 2u) { h.r2 = rows[min(first + 2u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  if (TILE_ROWS > 3u) { h.r3 = rows[min(first + 3u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  if (TILE_ROWS > 4u) { h.r4 = rows[min(first + 4u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  if (TILE_ROWS > 5u) { h.r5 = rows[min(first + 5u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  if (TILE_ROWS > 6u) { h.r6 = rows[min(first + 6u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  if (TILE_ROWS > 7u) { h.r7 = rows[min(first + 7u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  return h;
}

// The row of the tile that row_<i> gives a lane.
fn tile_row(i: u32, lane: u32) -> u32 { return i; }

fn row_0(h: Held) -> vec4f { return h.r0; }
fn row_1(h: Held) -> vec4f { return h.r1; }
fn row_2(h: Held) -> vec4f { return h.r2; }
fn row_3(h: Held) -> vec4f { return h.r3; }
fn row_4(h: Held) -> vec4f { return h.r4; }
fn row_5(h: Held) -> vec4f { return h.r5; }
fn row_6(h: Held) -> vec4f { return h.r6; }
fn row_7(h: Held) -> vec4f { return h.r7; }
fn row_8(h: Held) -> vec4f { return vec4f(); }
fn row_9(h: Held) -> vec4f { return vec4f(); }
fn row_10(h: Held) -> vec4f { return vec4f(); }
fn row_11(h: Held) -> vec4f { return vec4f(); }
fn row_12(h: Held) -> vec4f { return vec4f(); }
fn row_13(h: Held) -> vec4f { return vec4f(); }
fn row_14(h: Held) -> vec4f { return vec4f(); }
fn row_15(h: Held) -> vec4f { return vec4f(); }
