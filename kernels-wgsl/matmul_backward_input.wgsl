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

@group(0) @binding(0) var<storage, read_write> rows: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> dx: array<vec4f>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = group.x + group.y * GRID_X;
  if (tile >= TILES) { return; }
  let row = tile / TILES_X * TILE_ROWS;
  let column = tile % TILES_X * LANES + lane;
  let safe = min(column, COLUMNS4 - 1u);
  var sums: array<vec4f, TILE_ROWS>;
  for (var n = 0u; n < DEPTH4; n++) {
    hold_rows(row, FIRST_DEPTH4 + n, lane);
    let at = n * 4u * COLUMNS4 + safe;
    let w0 = load_weight4(at);
    let w1 = load_weight4(at + COLUMNS4);
    let w2 = load_weight4(at + 2u * COLUMNS4);
    let w3 = load_weight4(at + 3u * COLUMNS4);
    for (var i = 0u; i < TILE_ROWS; i++) {
      let v = held_row(i);
      sums[i] += v.x * w0;
      sums[i] += v.y * w1;
      sums[i] += v.z * w2;
      sums[i] += v.w * w3;
    }
  }
  if (column >= COLUMNS4) { return; }
  for (var i = 0u; i < TILE_ROWS; i++) {
    if (row + i < ROWS) {
      let at = (row + i) * COLUMNS4 + column;
      if (ACCUMULATE) { dx[at] += sums[i]; } else { dx[at] = sums[i]; }
    }
  }
}
