// cast: y = x in another 16 or 32 bit float format, in integer arithmetic on the bits, two elements per invocation,
// so that 16-bit results are written as whole words.
//
// Bytes: 4 to 8 per element; about 10 integer operations. Memory bandwidth is the limit.
const COUNT: u32 = 64u; // elements
const PACKS: u32 = 32u; // pairs of elements
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (i >= PACKS) { return; }
  write_pair(i, read_pair(i));
}
