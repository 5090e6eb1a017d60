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

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = group.x + group.y * GRID_X;
  if (tile >= TILES) { return; }
  let row4 = tile / TILES_X * TILE_ROWS4;
  let column = tile % TILES_X * LANES + lane;
  let safe = min(column, X_WIDTH4 - 1u);
  var sums: array<vec4f, TILE_ROWS4 * 4u>;
  for (var t = 0u; t < ROWS; t += HELD_ROWS) {
    hold_columns(t, row4, lane);
    for (var step = 0u; step < HELD_ROWS; step++) {
      let v = x[min(t + step, ROWS - 1u) * X_WIDTH4 + safe];
      for (var i = 0u; i < TILE_ROWS4; i++) {
        let d = held_columns(step, i);
        sums[i * 4u] += d.x * v;
        sums[i * 4u + 1u] += d.y * v;
        sums[i * 4u + 2u] += d.z * v;
        sums[i * 4u + 3u] += d.w * v;
      }
    }
  }
  if (column >= X_WIDTH4) { return; }
  for (var i = 0u; i < TILE_ROWS4 * 4u; i++) {
    let row = row4 * 4u + i;
    if (row < COLUMNS4 * 4u) { dw[row * X_WIDTH4 + column] += sums[i]; }
  }
}
