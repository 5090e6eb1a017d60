// embedding: y[t,:] = table[ids[t],:], zeros where ids[t] is past the table; one pack of a row per invocation.
//
// Bytes: 4 per element written and the element read, no flops: limited by memory bandwidth.
const ROWS: u32 = 1u;
const WIDTH: u32 = 16u; // in packs
const VOCABULARY: u32 = 1u;
// The rows of the table that are bound: large tables take several launches.
const FIRST_ID: u32 = 0u;
const PART_IDS: u32 = 1u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (i >= ROWS * WIDTH) { return; }
  let id = ids[i / WIDTH];
  if (id >= FIRST_ID && id < FIRST_ID + PART_IDS) {
    y[i] = load_pack((id - FIRST_ID) * WIDTH + i % WIDTH);
  } else if (FIRST_ID == 0u && id >= VOCABULARY) {
    y[i] = Pack();
  }
}
