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

@group(0) @binding(0) var<storage, read_write> rows: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<Pack>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = group.x + group.y * GRID_X;
  if (tile >= TILES) { return; }
  let row = tile / TILES_X * TILE_ROWS;
  let across = tile % TILES_X;
  let starts = min(tile_columns(across, lane), vec4u(COLUMNS - 1u));
  var sums: array<vec4f, TILE_ROWS>;
  let bias = vec4f(load_bias(starts.x), load_bias(starts.y), load_bias(starts.z), load_bias(starts.w));
  for (var i = 0u; i < TILE_ROWS; i++) { sums[i] = bias; }
  // Loads past an edge are clamped to the last row or column; their sums are not stored.
  for (var k = 0u; k < ROW_WIDTH4; k++) {
    hold_rows(row, k, lane);
    let w0 = load_weight4(starts.x * ROW_WIDTH4 + k);
    let w1 = load_weight4(starts.y * ROW_WIDTH4 + k);
    let w2 = load_weight4(starts.z * ROW_WIDTH4 + k);
    let w3 = load_weight4(starts.w * ROW_WIDTH4 + k);
    for (var i = 0u; i < TILE_ROWS; i++) {
      let v = held_row(i);
      sums[i] += vec4f(dot(v, w0), dot(v, w1), dot(v, w2), dot(v, w3));
    }
  }
  for (var i = 0u; i < TILE_ROWS; i++) {
    if (row + i < ROWS) { store_sums(row + i, across, lane, sums[i]); }
  }
  if (EPILOGUE) {
    for (var i = row; i < min(row + TILE_ROWS, ROWS); i++) { finish_sums(i, across, lane); }
  }
}
