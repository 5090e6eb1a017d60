// matmul_backward_input: dx[t,k] = sum_n dy[t,n] * w[n,k], w row-major, no transposition.
//
// A workgroup makes TILE_ROWS rows by LANES vectors of four columns in registers; a lane owns one vector.
// Per step of four n and per lane: 4 + TILE_ROWS / LANES loads of 16 bytes for 32 * TILE_ROWS flops; 16 rows on
// 8 lanes: 96 bytes for 512 flops, loads of w coalesced: arithmetic is the limit.
const ROWS: u32 = 16u;
// Width of dy in vectors of four; the part of it that this launch sums over.
const ROW_WIDTH4: u32 = 16u;
const FIRST_DEPTH4: u32 = 0u;
const DEPTH4: u32 = 16u;
const COLUMNS4: u32 = 16u;
// Large weights take several launches: all but the first add to dx.
const ACCUMULATE: bool = false;
const TILE_ROWS: u32 = 16u;
const LANES: u32 = 8u;
const TILES_X: u32 = 1u;
const TILES: u32 = 1u;
const GRID_X: u32 = 65535u;

@group(0) @binding(0) var<storage, read_write> rows: array<vec4f, ROWS * ROW_WIDTH4>;
@group(0) @binding(2) var<storage, read_write> dx: array<vec4f, ROWS * COLUMNS4>;

fn add_products(sum: vec4f, v: vec4f, w0: vec4f, w1: vec4f, w2: vec4f, w3: vec4f) -> vec4f {
  return (((sum + v.x * w0) + v.y * w1) + v.z * w2) + v.w * w3;
}

fn store(row: u32, column: u32, sum: vec4f) {
  if (row >= ROWS) { return; }
  let at = row * COLUMNS4 + column;
  if (ACCUMULATE) { dx[at] += sum; } else { dx[at] = sum; }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = group.x + group.y * GRID_X;
  if (tile >= TILES) { return; }
  let row = tile / TILES_X * TILE_ROWS;
  let column = tile % TILES_X * LANES + lane;
  let safe = min(column, COLUMNS4 - 1u);
  var s0 = vec4f();
  var s1 = vec4f();
  var s2 = vec4f();
  var s3 = vec4f();
  var s4 = vec4f();
  var s5 = vec4f();
  var s6 = vec4f();
  var s7 = vec4f();
  var s8 = vec4f();
  var s9 = vec4f();
  var s10 = vec4f();
  var s11 = vec4f();
  var s12 = vec4f();
  var s13 = vec4f();
  var s14 = vec4f();
  var s15 = vec4f();
  for (var n = 0u; n < DEPTH4; n++) {
    let held = hold_rows(row, FIRST_DEPTH4 + n, lane);
    let at = n * 4u * COLUMNS4 + safe;
    let w0 = load_weight4(at);
    let w1 = load_weight4(at + COLUMNS4);
    let w2 = load_weight4(at + 2u * COLUMNS4);
    let w3 = load_weight4(at + 3u * COLUMNS4);
    if (TILE_ROWS > 0u) { s0 = add_products(s0, row_0(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 1u) { s1 = add_products(s1, row_1(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 2u) { s2 = add_products(s2, row_2(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 3u) { s3 = add_products(s3, row_3(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 4u) { s4 = add_products(s4, row_4(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 5u) { s5 = add_products(s5, row_5(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 6u) { s6 = add_products(s6, row_6(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 7u) { s7 = add_products(s7, row_7(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 8u) { s8 = add_products(s8, row_8(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 9u) { s9 = add_products(s9, row_9(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 10u) { s10 = add_products(s10, row_10(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 11u) { s11 = add_products(s11, row_11(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 12u) { s12 = add_products(s12, row_12(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 13u) { s13 = add_products(s13, row_13(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 14u) { s14 = add_products(s14, row_14(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 15u) { s15 = add_products(s15, row_15(held), w0, w1, w2, w3); }
  }
  if (column >= COLUMNS4) { return; }
  if (TILE_ROWS > 0u) { store(row + tile_row(0u, lane), column, s0); }
  if (TILE_ROWS > 1u) { store(row + tile_row(1u, lane), column, s1); }
  if (TILE_ROWS > 2u) { store(row + tile_row(2u, lane), column, s2); }
  if (TILE_ROWS > 3u) { store(row + tile_row(3u, lane), column, s3); }
  if (TILE_ROWS > 4u) { store(row + tile_row(4u, lane), column, s4); }
  if (TILE_ROWS > 5u) { store(row + tile_row(5u, lane), column, s5); }
  if (TILE_ROWS > 6u) { store(row + tile_row(6u, lane), column, s6); }
  if (TILE_ROWS > 7u) { store(row + tile_row(7u, lane), column, s7); }
  if (TILE_ROWS > 8u) { store(row + tile_row(8u, lane), column, s8); }
  if (TILE_ROWS > 9u) { store(row + tile_row(9u, lane), column, s9); }
  if (TILE_ROWS > 10u) { store(row + tile_row(10u, lane), column, s10); }
  if (TILE_ROWS > 11u) { store(row + tile_row(11u, lane), column, s11); }
  if (TILE_ROWS > 12u) { store(row + tile_row(12u, lane), column, s12); }
  if (TILE_ROWS > 13u) { store(row + tile_row(13u, lane), column, s13); }
  if (TILE_ROWS > 14u) { store(row + tile_row(14u, lane), column, s14); }
  if (TILE_ROWS > 15u) { store(row + tile_row(15u, lane), column, s15); }
}
