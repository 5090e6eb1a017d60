// softmax_backward: dx[t,c] = y[t,c] * (dy[t,c] - sum_c dy[t,c] * y[t,c]), one workgroup per row.
//
// Bytes: 12 per element (dy and y once from memory, once more from cache; dx); flops: 4 per element. Memory
// bandwidth is the limit.
const PACKS: u32 = 16u;
const ROWS: u32 = 1u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> dy: array<Pack>;
@group(0) @binding(1) var<storage, read_write> y: array<Pack>;
@group(0) @binding(2) var<storage, read_write> dx: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * GRID_X;
  if (row >= ROWS) { return; }
  let base = row * PACKS;
  var sum = Pack(0.0);
  for (var i = lane; i < PACKS; i += WORKGROUP) { sum += dy[base + i] * y[base + i]; }
  let total = reduce_add(pack_sum(sum), lane);
  for (var i = lane; i < PACKS; i += WORKGROUP) { dx[base + i] = y[base + i] * (dy[base + i] - Pack(total)); }
}
