// matmul_vector: y[n] = activation(sum_k x[k] * w[n,k] + bias[n]) + residual[n] for one row.
//
// A workgroup makes TILE_COLUMNS outputs; its lanes walk along k, a lane takes one chunk of weights
// (16 bytes where the format allows) of each output at a time and uses the x it loaded for all of them.
// Bytes: each weight once; flops: 2 per weight, half a flop per byte in f32 and 3.6 in q4_0: the limit is memory
// bandwidth. CPU drivers have matmul_column.
// Chunks of weights of an output; vectors of x.
const ROW_CHUNKS: u32 = 16u;
const X_WIDTH4: u32 = 16u;
const COLUMNS: u32 = 16u;
const FIRST_COLUMN: u32 = 0u;
// 4 or 8.
const TILE_COLUMNS: u32 = 4u;
const WORKGROUP: u32 = 8u;
const GRID_X: u32 = 65535u;

@group(0) @binding(0) var<storage, read_write> x: array<vec4f, X_WIDTH4>;
@group(0) @binding(2) var<storage, read_write> y: array<Pack>;

// First chunk of an output's weights; past the last output, of the last one, which is not stored.
fn start(column: u32, j: u32) -> u32 {
  return min(column + j, COLUMNS - 1u) * ROW_CHUNKS;
}

@diagnostic(off, subgroup_uniformity)
fn finish(column: u32, sums: vec4f, lane: u32) {
  let sum = reduce_add(dot(sums, vec4f(1.0)), lane);
  if (lane == 0u && column < COLUMNS) {
    let at = FIRST_COLUMN + column;
    y[at] = add_residual(activate(sum + load_bias(column)), at);
  }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let column = (group.x + group.y * GRID_X) * TILE_COLUMNS;
  if (column >= COLUMNS) { return; }
  var s0 = vec4f();
  var s1 = vec4f();
  var s2 = vec4f();
  var s3 = vec4f();
  var s4 = vec4f();
  var s5 = vec4f();
  var s6 = vec4f();
  var s7 = vec4f();
  for (var chunk = lane; chunk < ROW_CHUNKS; chunk += WORKGROUP) {
    let xs = load_chunk(chunk);
    s0 += multiply_chunk(start(column, 0u) + chunk, xs);
    s1 += multiply_chunk(start(column, 1u) + chunk, xs);
    s2 += multiply_chunk(start(column, 2u) + chunk, xs);
    s3 += multiply_chunk(start(column, 3u) + chunk, xs);
    if (TILE_COLUMNS > 4u) { s4 += multiply_chunk(start(column, 4u) + chunk, xs); }
    if (TILE_COLUMNS > 5u) { s5 += multiply_chunk(start(column, 5u) + chunk, xs); }
    if (TILE_COLUMNS > 6u) { s6 += multiply_chunk(start(column, 6u) + chunk, xs); }
    if (TILE_COLUMNS > 7u) { s7 += multiply_chunk(start(column, 7u) + chunk, xs); }
  }
  finish(column + 0u, s0, lane);
  finish(column + 1u, s1, lane);
  finish(column + 2u, s2, lane);
  finish(column + 3u, s3, lane);
  if (TILE_COLUMNS > 4u) { finish(column + 4u, s4, lane); }
  if (TILE_COLUMNS > 5u) { finish(column + 5u, s5, lane); }
  if (TILE_COLUMNS > 6u) { finish(column + 6u, s6, lane); }
  if (TILE_COLUMNS > 7u) { finish(column + 7u, s7, lane); }
}
