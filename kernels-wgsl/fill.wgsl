// fill: every word of a range becomes VALUE (the bits of an f32 or a u32), one pack per invocation.
//
// Bytes: 4 per element, written; no arithmetic. Memory bandwidth is the limit.
const VALUE: u32 = 0u;
const PACKS: u32 = 16u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<PackU>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (i >= PACKS) { return; }
  x[i] = PackU(VALUE);
}
