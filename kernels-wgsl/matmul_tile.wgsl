// matmul_tile: y[t,n] = activation(sum_k x[t,k] * w[n,k] + bias[n]) + residual[t,n] for two rows and more.
//
// A workgroup makes a tile of TILE_ROWS rows by LANES * TILE_COLUMNS columns in registers; a lane owns
// TILE_COLUMNS columns, that is rows of w, and walks k four at a time.
// Per step of four k and per lane: TILE_COLUMNS + TILE_ROWS / LANES loads of 16 bytes for
// 8 * TILE_ROWS * TILE_COLUMNS flops; 16 x 4 on 8 lanes: 96 bytes for 512 flops. Above 5 flops per byte, all of
// which hit in cache, so arithmetic is the limit; on software drivers it is the loads of w, done lane by lane.
const ROWS: u32 = 16u;
const ROW_WIDTH4: u32 = 16u;
// Columns in this launch; columns of y; first column of this launch (large weights take several launches).
const COLUMNS: u32 = 16u;
const Y_WIDTH: u32 = 16u;
const FIRST_COLUMN: u32 = 0u;
const TILE_ROWS: u32 = 16u;
const TILE_COLUMNS: u32 = 4u;
const LANES: u32 = 8u;
// Tiles along the columns; workgroups in the grid's first dimension.
const TILES_X: u32 = 1u;
const TILES: u32 = 1u;
const GRID_X: u32 = 65535u;

@group(0) @binding(0) var<storage, read_write> rows: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = group.x + group.y * GRID_X;
  if (tile >= TILES) { return; }
  let row = tile / TILES_X * TILE_ROWS;
  let column = tile % TILES_X * (LANES * TILE_COLUMNS) + lane;
  var sums: array<array<f32, TILE_COLUMNS>, TILE_ROWS>;
  var weights: array<vec4f, TILE_COLUMNS>;
  var starts: array<u32, TILE_COLUMNS>;
  // Loads past an edge are clamped to the last row or column; their sums are not stored.
  for (var j = 0u; j < TILE_COLUMNS; j++) { starts[j] = min(column + j * LANES, COLUMNS - 1u) * ROW_WIDTH4; }
  for (var k = 0u; k < ROW_WIDTH4; k++) {
    hold_rows(row, k, lane);
    for (var j = 0u; j < TILE_COLUMNS; j++) { weights[j] = load_weight4(starts[j] + k); }
    for (var i = 0u; i < TILE_ROWS; i++) {
      let v = held_row(i);
      for (var j = 0u; j < TILE_COLUMNS; j++) { sums[i][j] += dot(v, weights[j]); }
    }
  }
  for (var i = 0u; i < TILE_ROWS; i++) {
    for (var j = 0u; j < TILE_COLUMNS; j++) {
      let c = column + j * LANES;
      if (row + i < ROWS && c < COLUMNS) {
        let at = (row + i) * Y_WIDTH + FIRST_COLUMN + c;
        y[at] = add_residual(activate(add_bias(sums[i][j], FIRST_COLUMN + c)), at);
      }
    }
  }
}
