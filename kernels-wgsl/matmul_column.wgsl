// matmul_column: y[n] = activation(sum_k x[k] * w[n,k] + bias[n]) + residual[n] for one row, on CPU drivers; where w has UPS
// gates, then as many ups, y[n] = activation(gate) * up.
//
// A lane makes TILE_COLUMNS sums, of columns that are WORKGROUP apart, and walks along k with one chunk of weights of each at a time, so
// the x it loaded serves all of them and nothing is joined at the end. Loads of neighbouring lanes lie a row apart,
// which a GPU would not like (it has matmul_vector); a CPU driver does every load lane by lane anyway.
// Bytes: each weight once; flops: 2 per weight, half a flop per byte in f32 and 3.6 in q4_0: on a GPU memory would be
// the limit, here it is the number of loads, hence the wide chunks, and for packed weights as much the unpacking.
// Chunks of weights of an output; vectors of x.
const ROW_CHUNKS: u32 = 16u;
const X_WIDTH4: u32 = 16u;
const COLUMNS: u32 = 16u;
const FIRST_COLUMN: u32 = 0u;
// Row of w at which ups begin; 0 without gates.
const UPS: u32 = 0u;
// 1 to 8.
const TILE_COLUMNS: u32 = 4u;
const WORKGROUP: u32 = 8u;
const GRID_X: u32 = 65535u;

@group(0) @binding(0) var<storage, read_write> x: array<vec4f, X_WIDTH4>;
@group(0) @binding(2) var<storage, read_write> y: array<Pack>;

// Column of y that sum j of a lane is for: gate and up of a column follow each other.
fn column_of(first: u32, j: u32) -> u32 {
  return first + select(j, j / 2u, UPS > 0u) * WORKGROUP;
}

// First chunk of a sum's weights; past the last column, of the last one, which is not stored.
fn start(first: u32, j: u32) -> u32 {
  return (min(column_of(first, j), COLUMNS - 1u) + j % 2u * UPS) * ROW_CHUNKS;
}

fn store(column: u32, sums: vec4f) {
  if (column >= COLUMNS) { return; }
  let at = FIRST_COLUMN + column;
  y[at] = add_residual(activate(dot(sums, vec4f(1.0)) + load_bias(column)), at);
}

fn finish(first: u32, j: u32, sums0: vec4f, sums1: vec4f) {
  let column = column_of(first, j);
  if (UPS == 0u) {
    store(column, sums0);
    if (TILE_COLUMNS > j + 1u) { store(column_of(first, j + 1u), sums1); }
  } else if (column < COLUMNS) {
    let up = dot(sums1, vec4f(1.0)) + load_bias(column + UPS);
    y[FIRST_COLUMN + column] = activate(dot(sums0, vec4f(1.0)) + load_bias(column)) * up;
  }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = column_of(0u, (group.x + group.y * GRID_X) * TILE_COLUMNS) + lane;
  let start0 = start(first, 0u);
  let start1 = start(first, 1u);
  let start2 = start(first, 2u);
  let start3 = start(first, 3u);
  let start4 = start(first, 4u);
  let start5 = start(first, 5u);
  let start6 = start(first, 6u);
  let start7 = start(first, 7u);
  var s0 = vec4f();
  var s1 = vec4f();
  var s2 = vec4f();
  var s3 = vec4f();
  var s4 = vec4f();
  var s5 = vec4f();
  var s6 = vec4f();
  var s7 = vec4f();
  for (var chunk = 0u; chunk < ROW_CHUNKS; chunk++) {
    let xs = load_chunk(chunk);
    s0 += multiply_chunk(start0 + chunk, xs);
    if (TILE_COLUMNS > 1u) { s1 += multiply_chunk(start1 + chunk, xs); }
    if (TILE_COLUMNS > 2u) { s2 += multiply_chunk(start2 + chunk, xs); }
    if (TILE_COLUMNS > 3u) { s3 += multiply_chunk(start3 + chunk, xs); }
    if (TILE_COLUMNS > 4u) { s4 += multiply_chunk(start4 + chunk, xs); }
    if (TILE_COLUMNS > 5u) { s5 += multiply_chunk(start5 + chunk, xs); }
    if (TILE_COLUMNS > 6u) { s6 += multiply_chunk(start6 + chunk, xs); }
    if (TILE_COLUMNS > 7u) { s7 += multiply_chunk(start7 + chunk, xs); }
  }
  finish(first, 0u, s0, s1);
  if (TILE_COLUMNS > 2u) { finish(first, 2u, s2, s3); }
  if (TILE_COLUMNS > 4u) { finish(first, 4u, s4, s5); }
  if (TILE_COLUMNS > 6u) { finish(first, 6u, s6, s7); }
}
