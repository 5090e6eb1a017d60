// matmul_scalar: y[i,j] = epilogue(sum_k a[i,k] * b[k,j]), any strides, any size, no optional feature: the kernel
// of matmul, matmul_backward_input and matmul_backward_weight where rows are not a multiple of four elements.
//
// A lane owns one column and TILE_ROWS rows. Per k: TILE_ROWS + 1 loads of 4 bytes for 2 * TILE_ROWS flops, below
// half a flop per byte: limited by loads from cache. Odd sizes are rare, so nothing more is done.
const ROWS: u32 = 1u;
const COLUMNS: u32 = 1u;
const DEPTH: u32 = 1u;
// Distance of neighbours along rows, columns and depth, in elements.
const A_ROW: u32 = 1u;
const A_DEPTH: u32 = 1u;
const A_FIRST: u32 = 0u;
const B_COLUMN: u32 = 1u;
const B_DEPTH: u32 = 1u;
const Y_WIDTH: u32 = 1u;
const FIRST_COLUMN: u32 = 0u;
const ACCUMULATE: bool = false;
const TILE_ROWS: u32 = 4u;
const TILES_X: u32 = 1u;
const TILES: u32 = 1u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = group.x + group.y * GRID_X;
  let row = tile / TILES_X * TILE_ROWS;
  let column = tile % TILES_X * WORKGROUP + lane;
  if (tile >= TILES || column >= COLUMNS) { return; }
  var sums: array<f32, TILE_ROWS>;
  for (var k = 0u; k < DEPTH; k++) {
    let b = load_vector(column * B_COLUMN + k * B_DEPTH);
    for (var i = 0u; i < TILE_ROWS; i++) {
      sums[i] += a[A_FIRST + min(row + i, ROWS - 1u) * A_ROW + k * A_DEPTH] * b;
    }
  }
  for (var i = 0u; i < TILE_ROWS; i++) {
    if (row + i < ROWS) {
      let at = (row + i) * Y_WIDTH + FIRST_COLUMN + column;
      let v = add_residual(activate(sums[i] + load_bias(column)), at);
      if (ACCUMULATE) { y[at] += v; } else { y[at] = v; }
    }
  }
}
