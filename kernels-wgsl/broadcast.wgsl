// broadcast: y = FACTOR * x, each element of x repeated for a span of y, one pack of y per invocation.
//
// Bytes: 4 per element of y + 4 per span; flops: 1. Memory bandwidth is the limit.
const SPAN_PACKS: u32 = 16u; // packs of y that share an element of x
const FACTOR: f32 = 1.0f;
const PACKS: u32 = 16u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (i >= PACKS) { return; }
  y[i] = Pack(x[i / SPAN_PACKS] * FACTOR);
}
