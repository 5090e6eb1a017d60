// tokens_read: ids[t] = tokens[sequence[t], position[t]]; 0 where the place is outside the table.
//
// Bytes: 16 per row, no arithmetic, a handful of rows: the launch itself is the cost.
const ROWS: u32 = 1u;
const BATCH: u32 = 1u;
const LENGTH: u32 = 1u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(1) var<storage, read_write> sequence: array<u32>;
@group(0) @binding(2) var<storage, read_write> position: array<u32>;
@group(0) @binding(3) var<storage, read_write> ids: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (row >= ROWS) { return; }
  let s = sequence[row];
  let p = position[row];
  var id = 0u;
  if (s < BATCH && p < LENGTH) { id = tokens[s * LENGTH + p]; }
  ids[row] = id;
}
