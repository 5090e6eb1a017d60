// matmul_vector: y[n] = activation(sum_k x[k] * w[n,k] + bias[n]) + residual[n] for one row.
//
// A workgroup makes TILE_COLUMNS outputs; its lanes walk along k, a lane takes one chunk of CHUNK4 * 4 weights
// (16 bytes where the format allows) of each output at a time and uses the x it loaded for all of them.
// Bytes: each weight once; flops: 2 per weight, half a flop per byte in f32 and 3.6 in q4_0: the limit is memory
// bandwidth, on software drivers the number of loads, hence the wide chunks.
const ROW_CHUNKS: u32 = 16u;
const COLUMNS: u32 = 16u;
const FIRST_COLUMN: u32 = 0u;
const TILE_COLUMNS: u32 = 4u;
const WORKGROUP: u32 = 8u;
const GRID_X: u32 = 65535u;

@group(0) @binding(0) var<storage, read_write> x: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let column = (group.x + group.y * GRID_X) * TILE_COLUMNS;
  if (column >= COLUMNS) { return; }
  var sums: array<vec4f, TILE_COLUMNS>;
  for (var chunk = lane; chunk < ROW_CHUNKS; chunk += WORKGROUP) {
    var xs: array<vec4f, CHUNK4>;
    for (var i = 0u; i < CHUNK4; i++) { xs[i] = x[chunk * CHUNK4 + i]; }
    for (var j = 0u; j < TILE_COLUMNS; j++) {
      sums[j] += multiply_chunk(min(column + j, COLUMNS - 1u) * ROW_CHUNKS + chunk, xs);
    }
  }
  for (var j = 0u; j < TILE_COLUMNS; j++) {
    let sum = reduce_add(dot(sums[j], vec4f(1.0)), lane);
    let at = FIRST_COLUMN + column + j;
    if (lane == 0u && column + j < COLUMNS) { y[at] = add_residual(activate(sum + load_bias(column + j)), at); }
  }
}
