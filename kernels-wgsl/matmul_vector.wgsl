// matmul_vector: y[n] = activation(sum_k x[k] * w[n,k] + bias[n]) + residual[n] for one row; where w has UPS gates, then as
// many ups, y[n] = activation(gate) * up.
//
// A workgroup makes TILE_COLUMNS sums; its lanes walk along k, a lane takes one chunk of weights
// (16 bytes where the format allows) of each sum at a time and uses the x it loaded for all of them.
// Bytes: each weight once; flops: 2 per weight, half a flop per byte in f32 and 3.6 in q4_0: the limit is memory
// bandwidth. CPU drivers have matmul_column.
// Chunks of weights of an output; vectors of x.
const ROW_CHUNKS: u32 = 16u;
const X_WIDTH4: u32 = 16u;
const COLUMNS: u32 = 16u;
const FIRST_COLUMN: u32 = 0u;
// Row of w at which ups begin; 0 without gates.
const UPS: u32 = 0u;
// 4 or 8.
const TILE_COLUMNS: u32 = 4u;
const WORKGROUP: u32 = 8u;
const GRID_X: u32 = 65535u;

@group(0) @binding(0) var<storage, read_write> x: array<vec4f, X_WIDTH4>;
@group(0) @binding(2) var<storage, read_write> y: array<Pack>;

// Column of y that sum j of a workgroup is for: gate and up of a column lie side by side.
fn column_of(first: u32, j: u32) -> u32 {
  return select(first + j, first + j / 2u, UPS > 0u);
}

// First chunk of a sum's weights; past the last column, of the last one, which is not stored.
fn start(first: u32, j: u32) -> u32 {
  return (min(column_of(first, j), COLUMNS - 1u) + j % 2u * UPS) * ROW_CHUNKS;
}

@diagnostic(off, subgroup_uniformity)
fn finish(first: u32, j: u32, sums0: vec4f, sums1: vec4f, lane: u32) {
  let sum0 = reduce_add(dot(sums0, vec4f(1.0)), lane);
  let sum1 = reduce_add(dot(sums1, vec4f(1.0)), lane);
  let column = column_of(first, j);
  if (lane != 0u || column >= COLUMNS) { return; }
  let at = FIRST_COLUMN + column;
  let value = activate(sum0 + load_bias(column));
  if (UPS > 0u) {
    y[at] = value * (sum1 + load_bias(column + UPS));
    return;
  }
  y[at] = add_residual(value, at);
  if (column + 1u < COLUMNS) { y[at + 1u] = add_residual(activate(sum1 + load_bias(column + 1u)), at + 1u); }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let column = column_of(0u, (group.x + group.y * GRID_X) * TILE_COLUMNS);
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
  finish(column, 0u, s0, s1, lane);
  finish(column, 2u, s2, s3, lane);
  if (TILE_COLUMNS > 4u) { finish(column, 4u, s4, s5, lane); }
  if (TILE_COLUMNS > 6u) { finish(column, 6u, s6, s7, lane); }
}
