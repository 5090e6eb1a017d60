// column_partial: sums of column_term(row, ...) over chunks of rows, one invocation per chunk and pack of columns.
// The chunks give a tall matrix enough invocations, and the two stages a summation order that is fixed.
//
// Bytes: 4 per element of dy (8 with the norm hook), once; flops: 1 (4) per element. Memory bandwidth is the limit.
const PACKS: u32 = 16u; // packs of a row
const ROWS: u32 = 1u;
const CHUNK: u32 = 32u; // rows of a chunk
const CHUNKS: u32 = 1u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> dy: array<Pack>;
@group(0) @binding(1) var<storage, read_write> partial: array<Pack>; // [CHUNKS, PACKS]

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tiles = (PACKS + WORKGROUP - 1u) / WORKGROUP;
  let flat = group.x + group.y * GRID_X;
  let chunk = flat / tiles;
  let column = (flat % tiles) * WORKGROUP + lane;
  if (chunk >= CHUNKS || column >= PACKS) { return; }
  let first = chunk * CHUNK;
  var sum = Pack(0.0);
  for (var row = first; row < min(first + CHUNK, ROWS); row++) { sum += column_term(row, row * PACKS + column); }
  partial[chunk * PACKS + column] = sum;
}
