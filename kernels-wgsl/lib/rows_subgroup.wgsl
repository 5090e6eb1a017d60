// TILE_ROWS (at most 16) rows of `rows`, four elements of each at a time. Here eight lanes hold one row each, and
// row_<i> broadcasts one: a 16-byte load per lane serves 8 rows of the tile. Written out: lanes must be constant.
enable subgroups;

struct Held {
  a: vec4f,
  b: vec4f,
}

fn load_row(first: u32, row: u32, column: u32) -> vec4f {
  return rows[min(first + min(row, TILE_ROWS - 1u), ROWS - 1u) * ROW_WIDTH4 + column];
}

fn hold_rows(first: u32, column: u32, lane: u32) -> Held {
  let i = lane % 8u;
  var h: Held;
  h.a = load_row(first, i, column);
  if (TILE_ROWS > 8u) { h.b = load_row(first, i + 8u, column); }
  return h;
}

// The row of the tile that row_<i> gives a lane.
fn tile_row(i: u32, lane: u32) -> u32 { return i; }

fn row_0(h: Held) -> vec4f { return subgroupBroadcast(h.a, 0u); }
fn row_1(h: Held) -> vec4f { return subgroupBroadcast(h.a, 1u); }
fn row_2(h: Held) -> vec4f { return subgroupBroadcast(h.a, 2u); }
fn row_3(h: Held) -> vec4f { return subgroupBroadcast(h.a, 3u); }
fn row_4(h: Held) -> vec4f { return subgroupBroadcast(h.a, 4u); }
fn row_5(h: Held) -> vec4f { return subgroupBroadcast(h.a, 5u); }
fn row_6(h: Held) -> vec4f { return subgroupBroadcast(h.a, 6u); }
fn row_7(h: Held) -> vec4f { return subgroupBroadcast(h.a, 7u); }
fn row_8(h: Held) -> vec4f { return subgroupBroadcast(h.b, 0u); }
fn row_9(h: Held) -> vec4f { return subgroupBroadcast(h.b, 1u); }
fn row_10(h: Held) -> vec4f { return subgroupBroadcast(h.b, 2u); }
fn row_11(h: Held) -> vec4f { return subgroupBroadcast(h.b, 3u); }
fn row_12(h: Held) -> vec4f { return subgroupBroadcast(h.b, 4u); }
fn row_13(h: Held) -> vec4f { return subgroupBroadcast(h.b, 5u); }
fn row_14(h: Held) -> vec4f { return subgroupBroadcast(h.b, 6u); }
fn row_15(h: Held) -> vec4f { return subgroupBroadcast(h.b, 7u); }
