// binary: y = combine(a, b), one pack per invocation. The hook says what is computed.
//
// Bytes: 12 per element; flops: 1 (add, mul) to 20 and one exp (gradients of activations). Memory bandwidth is the
// limit.
const PACKS: u32 = 16u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> a: array<Pack>;
@group(0) @binding(1) var<storage, read_write> b: array<Pack>;
@group(0) @binding(2) var<storage, read_write> y: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (i >= PACKS) { return; }
  y[i] = combine(a[i], b[i]);
}
