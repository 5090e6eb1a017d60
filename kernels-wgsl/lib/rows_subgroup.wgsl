// TILE_ROWS (at most 16) rows of `rows`, four elements of each at a time. Here lanes hold one row each, in vectors
// of min(LANES, 8) rows, and row_<i> broadcasts one: a 16-byte load per lane serves 4 or 8 rows of the tile.
// Written out, without arrays: SwiftShader keeps arrays in memory and needs constant lanes.
enable subgroups;
const PER_VECTOR: u32 = min(LANES, 8u);

struct Held {
  a: vec4f,
  b: vec4f,
  c: vec4f,
  d: vec4f,
}

fn load_row(first: u32, row: u32, column: u32) -> vec4f {
  return rows[min(first + min(row, TILE_ROWS - 1u), ROWS - 1u) * ROW_WIDTH4 + column];
}

fn hold_rows(first: u32, column: u32, lane: u32) -> Held {
  let i = lane % PER_VECTOR;
  var h: Held;
  h.a = load_row(first, i, column);
  if (TILE_ROWS > PER_VECTOR) { h.b = load_row(first, i + PER_VECTOR, column); }
  if (TILE_ROWS > 2u * PER_VECTOR) { h.c = load_row(first, i + 2u * PER_VECTOR, column); }
  if (TILE_ROWS > 3u * PER_VECTOR) { h.d = load_row(first, i + 3u * PER_VECTOR, column); }
  return h;
}

fn row_0(h: Held) -> vec4f { return subgroupBroadcast(h.a, 0u % PER_VECTOR); }
fn row_1(h: Held) -> vec4f { return subgroupBroadcast(h.a, 1u % PER_VECTOR); }
fn row_2(h: Held) -> vec4f { return subgroupBroadcast(h.a, 2u % PER_VECTOR); }
fn row_3(h: Held) -> vec4f { return subgroupBroadcast(h.a, 3u % PER_VECTOR); }
fn row_4(h: Held) -> vec4f { return subgroupBroadcast(select(h.b, h.a, LANES >= 8u), 4u % PER_VECTOR); }
fn row_5(h: Held) -> vec4f { return subgroupBroadcast(select(h.b, h.a, LANES >= 8u), 5u % PER_VECTOR); }
fn row_6(h: Held) -> vec4f { return subgroupBroadcast(select(h.b, h.a, LANES >= 8u), 6u % PER_VECTOR); }
fn row_7(h: Held) -> vec4f { return subgroupBroadcast(select(h.b, h.a, LANES >= 8u), 7u % PER_VECTOR); }
fn row_8(h: Held) -> vec4f { return subgroupBroadcast(select(h.c, h.b, LANES >= 8u), 8u % PER_VECTOR); }
fn row_9(h: Held) -> vec4f { return subgroupBroadcast(select(h.c, h.b, LANES >= 8u), 9u % PER_VECTOR); }
fn row_10(h: Held) -> vec4f { return subgroupBroadcast(select(h.c, h.b, LANES >= 8u), 10u % PER_VECTOR); }
fn row_11(h: Held) -> vec4f { return subgroupBroadcast(select(h.c, h.b, LANES >= 8u), 11u % PER_VECTOR); }
fn row_12(h: Held) -> vec4f { return subgroupBroadcast(select(h.d, h.b, LANES >= 8u), 12u % PER_VECTOR); }
fn row_13(h: Held) -> vec4f { return subgroupBroadcast(select(h.d, h.b, LANES >= 8u), 13u % PER_VECTOR); }
fn row_14(h: Held) -> vec4f { return subgroupBroadcast(select(h.d, h.b, LANES >= 8u), 14u % PER_VECTOR); }
fn row_15(h: Held) -> vec4f { return subgroupBroadcast(select(h.d, h.b, LANES >= 8u), 15u % PER_VECTOR); }
