// adamw: AdamW with decoupled decay on a range of elements, all three states in place; packs from BOUNDARY on take the
// second row of hyper.
//
// Bytes: 28 per parameter (4 reads, 3 writes); flops: 15, a division and a root. Memory bandwidth is the limit.
const PACKS: u32 = 16u;
const BOUNDARY: u32 = 16u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> param: array<Pack>;
@group(0) @binding(1) var<storage, read_write> moment1: array<Pack>;
@group(0) @binding(2) var<storage, read_write> moment2: array<Pack>;
@group(0) @binding(3) var<storage, read_write> gradient: array<Pack>;
@group(0) @binding(4) var<storage, read_write> hyper: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (i >= PACKS) { return; }
  let row = select(8u, 0u, i < BOUNDARY);
  let rate = hyper[row];
  let beta1 = hyper[row + 1u];
  let beta2 = hyper[row + 2u];
  let g = gradient[i] * clip_factor();
  let m = beta1 * moment1[i] + (1.0 - beta1) * g;
  let v = beta2 * moment2[i] + (1.0 - beta2) * g * g;
  moment1[i] = m;
  moment2[i] = v;
  let p = param[i];
  param[i] = p - rate * hyper[row + 4u] * p - rate * (m / hyper[row + 5u]) / (sqrt(v / hyper[row + 6u]) + Pack(hyper[row + 3u]));
}
