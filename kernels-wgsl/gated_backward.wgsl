// gated_backward: for y[t,f] = activation(x[t,f]) * x[t,F+f],
//   dx[t,f] = dy[t,f] * x[t,F+f] * activation'(x[t,f]) and dx[t,F+f] = dy[t,f] * activation(x[t,f]),
// one pack of dy per invocation.
//
// Bytes: 20 per element of dy; flops: about 35 and two exp. Memory bandwidth is the limit on a GPU, exp on a
// software driver.
const WIDTH_PACKS: u32 = 16u; // packs of one half row
const PACKS: u32 = 16u; // packs of dy
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> dy: array<Pack>;
@group(0) @binding(1) var<storage, read_write> x: array<Pack>;
@group(0) @binding(2) var<storage, read_write> dx: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (i >= PACKS) { return; }
  let gate = i + (i / WIDTH_PACKS) * WIDTH_PACKS;
  let v = x[gate];
  let d = dy[i];
  dx[gate] = d * x[gate + WIDTH_PACKS] * activation_derivative_pack(v);
  dx[gate + WIDTH_PACKS] = d * activation_pack(v);
}
