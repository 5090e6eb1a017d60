// matmul_backward_weight: dw[n,k] += sum_t dy[t,n] * x[t,k]; dy and x row-major along t, no transposition.
//
// A workgroup makes 4 * TILE_ROWS4 rows of dw by LANES vectors of four columns in registers; a lane owns one
// vector of x. Per row t and per lane: one load of x, less than one of dy, for 32 * TILE_ROWS4 flops; 16 rows:
// at most 32 bytes for 128 flops, all coalesced: arithmetic is the limit. The sum over t runs in order, four rows
// at a time: CPU drivers keep the sums in memory, and so touch them once for four products.
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

@group(0) @binding(0) var<storage, read_write> dy: array<vec4f, ROWS * DY_WIDTH4>;
@group(0) @binding(1) var<storage, read_write> x: array<vec4f, ROWS * X_WIDTH4>;
@group(0) @binding(2) var<storage, read_write> dw: array<vec4f, COLUMNS4 * 4u * X_WIDTH4>;

fn add_products(sum: vec4f, v: vec4f, x0: vec4f, x1: vec4f, x2: vec4f, x3: vec4f) -> vec4f {
  return (((sum + v.x * x0) + v.y * x1) + v.z * x2) + v.w * x3;
}

fn add_to(row4: u32, i: u32, column: u32, sum: vec4f) {
  if (row4 < COLUMNS4) { dw[(row4 * 4u + i) * X_WIDTH4 + column] += sum; }
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
  for (var t = 0u; t < ROWS; t += 4u) {
    let held = hold_columns(t, row4, lane);
    let x0 = x[min(t + 0u, ROWS - 1u) * X_WIDTH4 + safe];
    let x1 = x[min(t + 1u, ROWS - 1u) * X_WIDTH4 + safe];
    let x2 = x[min(t + 2u, ROWS - 1u) * X_WIDTH4 + safe];
    let x3 = x[min(t + 3u, ROWS - 1u) * X_WIDTH4 + safe];
    if (TILE_ROWS4 > 0u) {
      let v0 = columns_0_0(held);
      let v1 = columns_1_0(held);
      let v2 = columns_2_0(held);
      let v3 = columns_3_0(held);
      s0 = add_products(s0, vec4f(v0.x, v1.x, v2.x, v3.x), x0, x1, x2, x3);
      s1 = add_products(s1, vec4f(v0.y, v1.y, v2.y, v3.y), x0, x1, x2, x3);
      s2 = add_products(s2, vec4f(v0.z, v1.z, v2.z, v3.z), x0, x1, x2, x3);
      s3 = add_products(s3, vec4f(v0.w, v1.w, v2.w, v3.w), x0, x1, x2, x3);
    }
    if (TILE_ROWS4 > 1u) {
      let v0 = columns_0_1(held);
      let v1 = columns_1_1(held);
      let v2 = columns_2_1(held);
      let v3 = columns_3_1(held);
      s4 = add_products(s4, vec4f(v0.x, v1.x, v2.x, v3.x), x0, x1, x2, x3);
      s5 = add_products(s5, vec4f(v0.y, v1.y, v2.y, v3.y), x0, x1, x2, x3);
      s6 = add_products(s6, vec4f(v0.z, v1.z, v2.z, v3.z), x0, x1, x2, x3);
      s7 = add_products(s7, vec4f(v0.w, v1.w, v2.w, v3.w), x0, x1, x2, x3);
    }
    if (TILE_ROWS4 > 2u) {
      let v0 = columns_0_2(held);
      let v1 = columns_1_2(held);
      let v2 = columns_2_2(held);
      let v3 = columns_3_2(held);
      s8 = add_products(s8, vec4f(v0.x, v1.x, v2.x, v3.x), x0, x1, x2, x3);
      s9 = add_products(s9, vec4f(v0.y, v1.y, v2.y, v3.y), x0, x1, x2, x3);
      s10 = add_products(s10, vec4f(v0.z, v1.z, v2.z, v3.z), x0, x1, x2, x3);
      s11 = add_products(s11, vec4f(v0.w, v1.w, v2.w, v3.w), x0, x1, x2, x3);
    }
    if (TILE_ROWS4 > 3u) {
      let v0 = columns_0_3(held);
      let v1 = columns_1_3(held);
      let v2 = columns_2_3(held);
      let v3 = columns_3_3(held);
      s12 = add_products(s12, vec4f(v0.x, v1.x, v2.x, v3.x), x0, x1, x2, x3);
      s13 = add_products(s13, vec4f(v0.y, v1.y, v2.y, v3.y), x0, x1, x2, x3);
      s14 = add_products(s14, vec4f(v0.z, v1.z, v2.z, v3.z), x0, x1, x2, x3);
      s15 = add_products(s15, vec4f(v0.w, v1.w, v2.w, v3.w), x0, x1, x2, x3);
    }
  }
  if (column >= X_WIDTH4) { return; }
  if (TILE_ROWS4 > 0u) { add_to(row4 + tile_vector(0u, lane), 0u, column, s0); }
  if (TILE_ROWS4 > 0u) { add_to(row4 + tile_vector(0u, lane), 1u, column, s1); }
  if (TILE_ROWS4 > 0u) { add_to(row4 + tile_vector(0u, lane), 2u, column, s2); }
  if (TILE_ROWS4 > 0u) { add_to(row4 + tile_vector(0u, lane), 3u, column, s3); }
  if (TILE_ROWS4 > 1u) { add_to(row4 + tile_vector(1u, lane), 0u, column, s4); }
  if (TILE_ROWS4 > 1u) { add_to(row4 + tile_vector(1u, lane), 1u, column, s5); }
  if (TILE_ROWS4 > 1u) { add_to(row4 + tile_vector(1u, lane), 2u, column, s6); }
  if (TILE_ROWS4 > 1u) { add_to(row4 + tile_vector(1u, lane), 3u, column, s7); }
  if (TILE_ROWS4 > 2u) { add_to(row4 + tile_vector(2u, lane), 0u, column, s8); }
  if (TILE_ROWS4 > 2u) { add_to(row4 + tile_vector(2u, lane), 1u, column, s9); }
  if (TILE_ROWS4 > 2u) { add_to(row4 + tile_vector(2u, lane), 2u, column, s10); }
  if (TILE_ROWS4 > 2u) { add_to(row4 + tile_vector(2u, lane), 3u, column, s11); }
  if (TILE_ROWS4 > 3u) { add_to(row4 + tile_vector(3u, lane), 0u, column, s12); }
  if (TILE_ROWS4 > 3u) { add_to(row4 + tile_vector(3u, lane), 1u, column, s13); }
  if (TILE_ROWS4 > 3u) { add_to(row4 + tile_vector(3u, lane), 2u, column, s14); }
  if (TILE_ROWS4 > 3u) { add_to(row4 + tile_vector(3u, lane), 3u, column, s15); }
}
