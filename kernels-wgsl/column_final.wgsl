// column_final: accumulator += the sum over chunks of column_partial's sums, one invocation per pack of columns.
//
// Bytes: 4 per partial sum + 8 per column; flops: 1 per partial sum. At most 64 chunks, so a launch's own cost is
// the limit.
const PACKS: u32 = 16u;
const CHUNKS: u32 = 1u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> accumulator: array<Pack>;
@group(0) @binding(1) var<storage, read_write> partial: array<Pack>; // [CHUNKS, PACKS]

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (i >= PACKS) { return; }
  var sum = Pack(0.0);
  for (var chunk = 0u; chunk < CHUNKS; chunk++) { sum += partial[chunk * PACKS + i]; }
  accumulator[i] += sum;
}
