// embedding: y[t,:] = table[row_of(ids[t]),:], zeros where that is past the table; one pack of a row per invocation.
//
// Bytes: 4 per element written and the element read, no flops: limited by memory bandwidth.
const ROWS: u32 = 1u;
const WIDTH: u32 = 16u; // in packs
const VOCABULARY: u32 = 1u;
// The rows of the table that are bound: large tables take several launches.
const FIRST_ROW: u32 = 0u;
const PART_ROWS: u32 = 1u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (i >= ROWS * WIDTH) { return; }
  let row = row_of(ids[i / WIDTH]);
  if (row >= FIRST_ROW && row < FIRST_ROW + PART_ROWS) {
    y[i] = load_pack((row - FIRST_ROW) * WIDTH + i % WIDTH);
  } else if (FIRST_ROW == 0u && row >= VOCABULARY) {
    y[i] = Pack();
  }
}
