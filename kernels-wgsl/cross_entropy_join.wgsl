// cross_entropy_join: lse[t] = log sum_p exp(parts[p,0,t]); loss[t] = weights[t] * (lse[t] - sum_p parts[p,1,t]), in
// the order of the parts; one pack of rows per invocation.
//
// Bytes: 8 per part and row from memory and 4 from cache, 12 per row; flops: 4 and one exp per part and row. 8,192
// rows of 8 parts are 0.5 MB: a launch's own cost is the limit.
const PARTS: u32 = 2u;
const PACKS: u32 = 16u; // packs of rows
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> parts: array<Pack>; // [PARTS, 2, PACKS]
@group(0) @binding(1) var<storage, read_write> weights: array<Pack>;
@group(0) @binding(2) var<storage, read_write> loss: array<Pack>;
@group(0) @binding(3) var<storage, read_write> lse: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (t >= PACKS) { return; }
  var top = parts[t];
  for (var p = 1u; p < PARTS; p++) { top = max(top, parts[2u * p * PACKS + t]); }
  var sum = Pack(0.0);
  var logit = Pack(0.0);
  for (var p = 0u; p < PARTS; p++) {
    sum += exp(parts[2u * p * PACKS + t] - top);
    logit += parts[(2u * p + 1u) * PACKS + t];
  }
  let value = top + log(sum);
  lse[t] = value;
  loss[t] = weights[t] * (value - logit);
}
