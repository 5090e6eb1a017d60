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
  var highest = logits[base + min(lane, PACKS - 1u)];
  for (var i = lane + WORKGROUP; i < PACKS; i += WORKGROUP) { highest = max(highest, logits[base + i]); }
  let top = reduce_max(pack_max(highest), lane);
  var sum = Pack(0.0);
  for (var i = lane; i < PACKS; i += WORKGROUP) { sum += exp(logits[base + i] - Pack(top)); }
  let total = reduce_add(pack_sum(sum), lane);
  if (lane == 0u) {
    let value = top + log(total);
    // Rows of weight 0 may carry any target; the clamp keeps their load inside the row.
    let label = min(targets[row], PACKS * PACK - 1u);
    let chosen = logits[base + label / PACK];
    let logit = pack_sum(select(Pack(0.0), chosen, PACK_INDEX == PackU(label % PACK)));
    lse[row] = value;
    loss[row] = weights[row] * (value - logit);
  }
}
