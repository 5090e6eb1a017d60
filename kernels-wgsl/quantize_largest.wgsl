// The largest magnitude of every STRIDE-th of COUNT words, as bits: NaN is larger than all numbers. Launched again on
// what it leaves until there is one.
//
// Bytes: 4 per element; memory bandwidth is the limit.
const COUNT: u32 = 64u;
const STRIDE: u32 = 64u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> largest: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= STRIDE) { return; }
  var best = 0u;
  for (var i = id.x; i < COUNT; i += STRIDE) { best = max(best, x[i] & 0x7fffffffu); }
  largest[id.x] = best;
}
