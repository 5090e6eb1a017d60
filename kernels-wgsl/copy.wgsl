// copy: y = x bit for bit in whole words, whatever they hold, one pack per invocation.
//
// Bytes: 8 per word; no arithmetic. Memory bandwidth is the limit.
const PACKS: u32 = 16u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<PackU>;
@group(0) @binding(1) var<storage, read_write> y: array<PackU>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (i >= PACKS) { return; }
  y[i] = x[i];
}
