// clip_by_norm: x *= min(1, limit / (norm + 1e-6)), in place; nothing is touched when the factor is 1.
//
// Bytes: 8 per element; flops: 1 per element. Memory bandwidth is the limit, and nothing at all below the limit.
const PACKS: u32 = 16u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<Pack>;
@group(0) @binding(1) var<storage, read_write> norm: array<f32>;
@group(0) @binding(2) var<storage, read_write> limit: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (i >= PACKS) { return; }
  let factor = limit[0] / (norm[0] + 0.000001);
  if (limit[0] > 0.0 && factor < 1.0) { x[i] *= factor; }
}
