// cross_entropy: lse[t] = log sum_c exp(logits[t,c]); loss[t] = weights[t] * (lse[t] - logits[t,targets[t]]);
// one workgroup per row.
//
// Bytes: 4 per logit from memory and 4 from cache (a row of 128k logits is 512 KiB, inside any L2); flops: one
// maximum, one addition, one exp per logit. Memory bandwidth is the limit on a GPU, exp on a software driver.
const PACKS: u32 = 16u;
const ROWS: u32 = 1u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> logits: array<Pack>;
@group(0) @binding(1) var<storage, read_write> targets: array<u32>;
@group(0) @binding(2) var<storage, read_write> weights: array<f32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * GRID_X;
  if (row >= ROWS) { return; }
  let base = row * PACKS;
  let value = row_lse(base, lane);
  if (lane == 0u) {
    lse[row] = value;
    // Rows of weight 0 may carry any target.
    loss[row] = weights[row] * (value - row_logit(base, targets[row]));
  }
}
