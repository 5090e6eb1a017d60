// cast: y = x in another float format, in integer arithmetic on the bits, four elements per invocation, so that results
// of 8 and 16 bits are written as whole words. The module that reads x has its binding.
//
// Bytes: 2 to 8 per element; about 10 integer operations. Memory bandwidth is the limit.
const COUNT: u32 = 64u; // elements
const PACKS: u32 = 16u; // fours of elements
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (i >= PACKS) { return; }
  // Past the last element are zeros, which fill its word.
  write_four(i, select(vec4u(), read_four(i), vec4u(0u, 1u, 2u, 3u) + 4u * i < vec4u(COUNT)));
}
