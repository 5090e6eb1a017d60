// transpose: y = x with its dims in another order, one pack of y per invocation. SIZE0 to SIZE3 are y's dims (leading
// ones are 1), STEP0 to STEP3 how far x moves along each. Packs of four where the last dim stays last.
//
// Bytes: 8 per element, reads scattered where the last dim moves; about 10 integer operations. Memory bandwidth is
// the limit.
const SIZE1: u32 = 1u;
const SIZE2: u32 = 1u;
const SIZE3: u32 = 64u;
const STEP0: u32 = 64u;
const STEP1: u32 = 64u;
const STEP2: u32 = 64u;
const STEP3: u32 = 1u;
const PACKS: u32 = 64u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<PackU>;
@group(0) @binding(1) var<storage, read_write> y: array<PackU>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (i >= PACKS) { return; }
  let row = i / SIZE3;
  let plane = row / SIZE2;
  y[i] = x[(plane / SIZE1) * STEP0 + (plane % SIZE1) * STEP1 + (row % SIZE2) * STEP2 + (i % SIZE3) * STEP3];
}
