// reduce_first: y[c] = SCALE * the fold of x[r, c] over rows r in ascending order, one chain per element; one pack of
// y per invocation. The order is part of what the op promises.
//
// Bytes: 4 per element of x + 4 per element of y; flops: 1 per element of x. Memory bandwidth is the limit: the loads
// of a row lie side by side, and they do not wait for the chain.
const ROWS: u32 = 2u;
const PACKS: u32 = 16u; // packs of a row
const CONTINUES: u32 = 0u; // 1: y holds the fold of the rows before these
const SCALE: f32 = 1.0f;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<Pack>;
@group(0) @binding(1) var<storage, read_write> y: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let column = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (column >= PACKS) { return; }
  var folded = x[column];
  if (CONTINUES == 1u) { folded = fold(y[column], folded); }
  for (var row = 1u; row < ROWS; row++) { folded = fold(folded, x[row * PACKS + column]); }
  y[column] = folded * SCALE;
}
