// matmul_backward_weight: dw[n,k] += sum_t dy[t,n] * x[t,k]; dy and x row-major along t, no transposition.
//
// A workgroup makes 4 * TILE_ROWS4 rows of dw by LANES vectors of four columns in registers; a lane owns one
// vector of x. Per row t and per lane: one load of x, less than one of dy, for 32 * TILE_ROWS4 flops; 16 rows:
// at most 32 bytes for 128 flops, all coalesced: arithmetic is the limit. The sum over t runs in order.
const ROWS: u32 = 16u;
// Widths in vectors of four: dy, x; the part of dy's columns that this launch makes.
const DY_WIDTH4: u32 = 16u;
const X_WIDTH4: u32 = 16u;
const FIRST_COLUMN4: u32 = 0u;
const COLUMNS4: u32 = 16u;
const TILE_ROWS4: u32 = 4u;
const LANES: u32 = 8u;
const TILES_X: u32 = 1u;
const TILES: u32 = 1u;
const GRID_X: u32 = 65535u;

@group(0) @binding(0) var<storage, read_write> dy: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> x: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> dw: array<vec4f>;

fn add_to(row: u32, column: u32, sum: vec4f) {
  if (row < COLUMNS4 * 4u) { dw[row * X_WIDTH4 + column] += sum; }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = group.x + group.y * GRID_X;
  if (tile >= TILES) { return; }
  let row4 = tile / TILES_X * TILE_ROWS4;
  let column = tile % TILES_X * LANES + lane;
  let safe = min(column, X_WIDTH4 - 1u);
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
  for (var t = 0u; t < ROWS; t += HELD_ROWS) {
    let held = hold_columns(t, row4, lane);
    let x0 = x[min(t + 0u, ROWS - 1u) * X_WIDTH4 + safe];
    if (TILE_ROWS4 > 0u) {
      let v = columns_0_0(held);
      s0 += v.x * x0;
      s1 += v.y * x0;
      s2 += v.z * x0;
      s3 += v.w * x0;
    }
    if (TILE_ROWS4 > 1u) {
      let v = columns_0_1(held);
      s4 += v.x * x0;
      s5 += v.y * x0;
      s6 += v.z * x0;
      s7 += v.w * x0;
    }
    if (TILE_ROWS4 > 2u) {
      let v = columns_0_2(held);
      s8 += v.x * x0;
      s9 += v.y * x0;
      s10 += v.z * x0;
      s11 += v.w * x0;
    }
    if (TILE_ROWS4 > 3u) {
      let v = columns_0_3(held);
      s12 += v.x * x0;
      s13 += v.y * x0;
      s14 += v.z * x0;
      s15 += v.w * x0;
    }
    if (HELD_ROWS > 1u) {
      let x1 = x[min(t + 1u, ROWS - 1u) * X_WIDTH4 + safe];
      if (TILE_ROWS4 > 0u) {
        let v = columns_1_0(held);
        s0 += v.x * x1;
        s1 += v.y * x1;
        s2 += v.z * x1;
        s3 += v.w * x1;
      }
      if (TILE_ROWS4 > 1u) {
        let v = columns_1_1(held);
        s4 += v.x * x1;
        s5 += v.y * x1;
        s6 += v.z * x1;
        s7 += v.w * x1;
      }
      if (TILE_ROWS4 > 2u) {
        let v = columns_1_2(held);
        s8 += v.x * x1;
        s9 += v.y * x1;
        s10 += v.z * x1;
        s11 += v.w * x1;
      }
      if (TILE_ROWS4 > 3u) {
        let v = columns_1_3(held);
        s12 += v.x * x1;
        s13 += v.y * x1;
        s14 += v.z * x1;
        s15 += v.w * x1;
      }
    }
  }
  if (column >= X_WIDTH4) { return; }
  let row = row4 * 4u;
  if (TILE_ROWS4 > 0u) { add_to(row + 0u, column, s0); }
  if (TILE_ROWS4 > 0u) { add_to(row + 1u, column, s1); }
  if (TILE_ROWS4 > 0u) { add_to(row + 2u, column, s2); }
  if (TILE_ROWS4 > 0u) { add_to(row + 3u, column, s3); }
  if (TILE_ROWS4 > 1u) { add_to(row + 4u, column, s4); }
  if (TILE_ROWS4 > 1u) { add_to(row + 5u, column, s5); }
  if (TILE_ROWS4 > 1u) { add_to(row + 6u, column, s6); }
  if (TILE_ROWS4 > 1u) { add_to(row + 7u, column, s7); }
  if (TILE_ROWS4 > 2u) { add_to(row + 8u, column, s8); }
  if (TILE_ROWS4 > 2u) { add_to(row + 9u, column, s9); }
  if (TILE_ROWS4 > 2u) { add_to(row + 10u, column, s10); }
  if (TILE_ROWS4 > 2u) { add_to(row + 11u, column, s11); }
  if (TILE_ROWS4 > 3u) { add_to(row + 12u, column, s12); }
  if (TILE_ROWS4 > 3u) { add_to(row + 13u, column, s13); }
  if (TILE_ROWS4 > 3u) { add_to(row + 14u, column, s14); }
  if (TILE_ROWS4 > 3u) { add_to(row + 15u, column, s15); }
}
