// gated: y[t,f] = activation(x[t,f]) * x[t,F+f], one pack per invocation.
//
// Bytes: 12 per output element; flops: about 16 and one exp. Memory bandwidth is the limit on a GPU, exp on a
// software driver.
const WIDTH_PACKS: u32 = 16u; // packs of one half row
const PACKS: u32 = 16u; // packs of y
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<Pack>;
@group(0) @binding(1) var<storage, read_write> y: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (i >= PACKS) { return; }
  let gate = i + (i / WIDTH_PACKS) * WIDTH_PACKS;
  y[i] = activation_pack(x[gate]) * x[gate + WIDTH_PACKS];
}
