// norm_statistics: mean and inverse deviation of each row, one workgroup per row; what the gradient of a norm's
// weight needs of a row before columns can be summed.
//
// Bytes: 4 per element + 8 per row; flops: 2 to 4 per element. Memory bandwidth is the limit.
const PACKS: u32 = 16u; // packs of a row
const ROWS: u32 = 1u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<Pack>;
@group(0) @binding(1) var<storage, read_write> statistics: array<vec2f>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * GRID_X;
  if (row >= ROWS) { return; }
  let own = row_statistics(row * PACKS, lane);
  if (lane == 0u) { statistics[row] = own; }
}
