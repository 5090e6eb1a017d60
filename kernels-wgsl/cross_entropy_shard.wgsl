// cross_entropy_shard: parts[0,t] = log sum_c exp(logits[t,c]); parts[1,t] = the target's logit where the target is a
// column of this part, else 0; one workgroup per row.
//
// Bytes and limit: as cross_entropy.
const PACKS: u32 = 16u;
const ROWS: u32 = 1u; // of this launch
const FIRST: u32 = 0u; // the first of them
const ALL_ROWS: u32 = 1u;
const FIRST_TARGET: u32 = 0u; // that column 0 is
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> logits: array<Pack>;
@group(0) @binding(1) var<storage, read_write> targets: array<u32>;
@group(0) @binding(2) var<storage, read_write> parts: array<f32>; // [2, ALL_ROWS]

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * GRID_X;
  if (row >= ROWS) { return; }
  let base = row * PACKS;
  let value = row_lse(base, lane);
  if (lane == 0u) {
    let label = targets[row] - FIRST_TARGET; // wraps where it is before
    parts[FIRST + row] = value;
    parts[ALL_ROWS + FIRST + row] = select(0.0, row_logit(base, label), label < PACKS * PACK);
  }
}
