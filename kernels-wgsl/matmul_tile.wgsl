// matmul_tile: y[t,n] = activation(sum_k x[t,k] * w[n,k] + bias[n]) + residual[t,n] for two rows and more.
//
// A workgroup makes a tile of TILE_ROWS rows by LANES * 4 columns in registers; a lane owns four columns, that is
// rows of w, and walks k four at a time.
// Per step of four k and per lane: 4 + TILE_ROWS / LANES loads of 16 bytes for 32 * TILE_ROWS flops; 16 rows on
// 8 lanes: 96 bytes for 512 flops. Above 5 flops per byte, all of which hit in cache, so arithmetic is the limit;
// on software drivers it is the loads of w, done lane by lane.
//
// Activation and residual are a second pass over the tile just written: unrolled 16 times they would take a CPU
// driver longer to compile than the product itself, and a loop over registers would put the sums into memory.
const ROWS: u32 = 16u;
const ROW_WIDTH4: u32 = 16u;
// Columns in this launch; columns of y; first column of this launch (large weights take several launches).
const COLUMNS: u32 = 16u;
const Y_WIDTH: u32 = 16u;
const FIRST_COLUMN: u32 = 0u;
const TILE_ROWS: u32 = 16u;
const LANES: u32 = 8u;
// Tiles along the columns; workgroups in the grid's first dimension.
const TILES_X: u32 = 1u;
const TILES: u32 = 1u;
const GRID_X: u32 = 65535u;
// Is there an activation or a residual?
const EPILOGUE: bool = false;

@group(0) @binding(0) var<storage, read_write> rows: array<vec4f, ROWS * ROW_WIDTH4>;
@group(0) @binding(2) var<storage, read_write> y: array<Pack>;

fn dots(v: vec4f, w0: vec4f, w1: vec4f, w2: vec4f, w3: vec4f) -> vec4f {
  return vec4f(dot(v, w0), dot(v, w1), dot(v, w2), dot(v, w3));
}

fn store_row(first: u32, i: u32, across: u32, lane: u32, sums: vec4f) {
  let row = first + tile_row(i, lane);
  if (row < ROWS) { store_sums(row, across, lane, sums); }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = group.x + group.y * GRID_X;
  if (tile >= TILES) { return; }
  let row = tile / TILES_X * TILE_ROWS;
  let across = tile % TILES_X;
  let starts = min(tile_columns(across, lane), vec4u(COLUMNS - 1u));
  let bias = vec4f(load_bias(starts.x), load_bias(starts.y), load_bias(starts.z), load_bias(starts.w));
  var s0 = bias;
  var s1 = bias;
  var s2 = bias;
  var s3 = bias;
  var s4 = bias;
  var s5 = bias;
  var s6 = bias;
  var s7 = bias;
  var s8 = bias;
  var s9 = bias;
  var s10 = bias;
  var s11 = bias;
  var s12 = bias;
  var s13 = bias;
  var s14 = bias;
  var s15 = bias;
  // Loads past an edge are clamped to the last row or column; their sums are not stored.
  for (var k = 0u; k < ROW_WIDTH4; k++) {
    let held = hold_rows(row, k, lane);
    let w0 = load_weight4(starts.x * ROW_WIDTH4 + k);
    let w1 = load_weight4(starts.y * ROW_WIDTH4 + k);
    let w2 = load_weight4(starts.z * ROW_WIDTH4 + k);
    let w3 = load_weight4(starts.w * ROW_WIDTH4 + k);
    if (TILE_ROWS > 0u) { s0 += dots(row_0(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 1u) { s1 += dots(row_1(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 2u) { s2 += dots(row_2(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 3u) { s3 += dots(row_3(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 4u) { s4 += dots(row_4(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 5u) { s5 += dots(row_5(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 6u) { s6 += dots(row_6(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 7u) { s7 += dots(row_7(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 8u) { s8 += dots(row_8(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 9u) { s9 += dots(row_9(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 10u) { s10 += dots(row_10(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 11u) { s11 += dots(row_11(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 12u) { s12 += dots(row_12(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 13u) { s13 += dots(row_13(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 14u) { s14 += dots(row_14(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 15u) { s15 += dots(row_15(held), w0, w1, w2, w3); }
  }
  if (TILE_ROWS > 0u) { store_row(row, 0u, across, lane, s0); }
  if (TILE_ROWS > 1u) { store_row(row, 1u, across, lane, s1); }
  if (TILE_ROWS > 2u) { store_row(row, 2u, across, lane, s2); }
  if (TILE_ROWS > 3u) { store_row(row, 3u, across, lane, s3); }
  if (TILE_ROWS > 4u) { store_row(row, 4u, across, lane, s4); }
  if (TILE_ROWS > 5u) { store_row(row, 5u, across, lane, s5); }
  if (TILE_ROWS > 6u) { store_row(row, 6u, across, lane, s6); }
  if (TILE_ROWS > 7u) { store_row(row, 7u, across, lane, s7); }
  if (TILE_ROWS > 8u) { store_row(row, 8u, across, lane, s8); }
  if (TILE_ROWS > 9u) { store_row(row, 9u, across, lane, s9); }
  if (TILE_ROWS > 10u) { store_row(row, 10u, across, lane, s10); }
  if (TILE_ROWS > 11u) { store_row(row, 11u, across, lane, s11); }
  if (TILE_ROWS > 12u) { store_row(row, 12u, across, lane, s12); }
  if (TILE_ROWS > 13u) { store_row(row, 13u, across, lane, s13); }
  if (TILE_ROWS > 14u) { store_row(row, 14u, across, lane, s14); }
  if (TILE_ROWS > 15u) { store_row(row, 15u, across, lane, s15); }
  if (EPILOGUE) {
    for (var i = row; i < min(row + TILE_ROWS, ROWS); i++) { finish_sums(i, across, lane); }
  }
}
