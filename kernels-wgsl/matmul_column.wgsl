// matmul_column: y[n] = activation(sum_k x[k] * w[n,k] + bias[n]) + residual[n] for one row, on CPU drivers.
//
// A lane makes TILE_COLUMNS outputs, WORKGROUP apart, and walks along k with one chunk of weights of each at a time, so
// the x it loaded serves all of them and nothing is joined at the end. Loads of neighbouring lanes lie a row apart,
// which a GPU would not like (it has matmul_vector); a CPU driver does every load lane by lane anyway.
// Bytes: each weight once; flops: 2 per weight, half a flop per byte in f32 and 3.6 in q4_0: on a GPU memory would be
// the limit, here it is the number of loads, hence the wide chunks, and for packed weights as much the unpacking.
// Chunks of weights of an output; vectors of x.
const ROW_CHUNKS: u32 = 16u;
const X_WIDTH4: u32 = 16u;
const COLUMNS: u32 = 16u;
const FIRST_COLUMN: u32 = 0u;
// 1 to 8.
const TILE_COLUMNS: u32 = 4u;
const WORKGROUP: u32 = 8u;
const GRID_X: u32 = 65535u;

@group(0) @binding(0) var<storage, read_write> x: array<vec4f, X_WIDTH4>;
@group(0) @binding(2) var<storage, read_write> y: array<Pack>;

// First chunk of an output's weights; past the last output, of the last one, which is not stored.
fn start(column: u32) -> u32 {
  return min(column, COLUMNS - 1u) * ROW_CHUNKS;
}

fn finish(column: u32, sums: vec4f) {
  if (column >= COLUMNS) { return; }
  let at = FIRST_COLUMN + column;
  y[at] = add_residual(activate(dot(sums, vec4f(1.0)) + load_bias(column)), at);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let column = (group.x + group.y * GRID_X) * TILE_COLUMNS * WORKGROUP + lane;
  let start0 = start(column + 0u * WORKGROUP);
  let start1 = start(column + 1u * WORKGROUP);
  let start2 = start(column + 2u * WORKGROUP);
  let start3 = start(column + 3u * WORKGROUP);
  let start4 = start(column + 4u * WORKGROUP);
  let start5 = start(column + 5u * WORKGROUP);
  let start6 = start(column + 6u * WORKGROUP);
  let start7 = start(column + 7u * WORKGROUP);
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
  finish(column, s0);
  if (TILE_COLUMNS > 1u) { finish(column + 1u * WORKGROUP, s1); }
  if (TILE_COLUMNS > 2u) { finish(column + 2u * WORKGROUP, s2); }
  if (TILE_COLUMNS > 3u) { finish(column + 3u * WORKGROUP, s3); }
  if (TILE_COLUMNS > 4u) { finish(column + 4u * WORKGROUP, s4); }
  if (TILE_COLUMNS > 5u) { finish(column + 5u * WORKGROUP, s5); }
  if (TILE_COLUMNS > 6u) { finish(column + 6u * WORKGROUP, s6); }
  if (TILE_COLUMNS > 7u) { finish(column + 7u * WORKGROUP, s7); }
}
