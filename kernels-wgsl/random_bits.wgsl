// random_bits: bits[4 * i + j] = word j of Philox4x32-10 at counter (step, stream, i, 0).
//
// Bytes: 4 written per word; about 90 integer operations per word (10 rounds, two 32 x 32 products each over
// four words). 20 operations a byte: limited by integer arithmetic.
const COUNT: u32 = 1u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> key: array<u32>;
@group(0) @binding(1) var<storage, read_write> bits: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let block = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (block * 4u >= COUNT) { return; }
  let words = philox(vec4u(key[2], key[3], block, 0u), vec2u(key[0], key[1]));
  for (var j = 0u; j < min(4u, COUNT - block * 4u); j++) {
    bits[block * 4u + j] = words[j];
  }
}
