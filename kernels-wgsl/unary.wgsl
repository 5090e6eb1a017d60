// unary: y = activation(x), one pack per invocation.
//
// Bytes: 8 per element; flops: about 15 and one exp. Memory bandwidth is the limit on a GPU, exp on a software
// driver.
const PACKS: u32 = 16u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<Pack>;
@group(0) @binding(1) var<storage, read_write> y: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (i >= PACKS) { return; }
  y[i] = activation_pack(x[i]);
}
