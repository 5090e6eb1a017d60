// norm: y[t,:] = affine((x[t,:] - mean) * inverse deviation), one workgroup per row. rms_norm (mean 0, weight) and
// layer_norm (mean, weight, bias) are this kernel with their own statistics and affine hooks.
//
// Bytes: 8 per element (x from memory, then once or twice from cache; y) + weight and bias; flops: 4 to 8 per
// element. Far below one flop per byte, so memory bandwidth is the limit.
const PACKS: u32 = 16u; // packs of a row
const ROWS: u32 = 1u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<Pack>;
@group(0) @binding(2) var<storage, read_write> y: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * GRID_X;
  if (row >= ROWS) { return; }
  let base = row * PACKS;
  let statistics = row_statistics(base, lane);
  for (var i = lane; i < PACKS; i += WORKGROUP) {
    y[base + i] = affine((x[base + i] - Pack(statistics.x)) * statistics.y, i);
  }
}
