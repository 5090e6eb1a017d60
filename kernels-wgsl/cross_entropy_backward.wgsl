// cross_entropy_backward: dlogits[t,c] = dloss[t] * weights[t] * (exp(logits[t,c] - lse[t]) - (c == targets[t] - first)).
// A workgroup makes TILE packs of one row.
//
// Bytes: 8 per logit (read, write); flops: 3 and one exp per logit. Memory bandwidth is the limit on a GPU, exp
// on a software driver.
const PACKS: u32 = 16u;
const ROWS: u32 = 1u;
const TILES: u32 = 1u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;
const TILE: u32 = 256u;
const FIRST_TARGET: u32 = 0u; // that column 0 is

@group(0) @binding(0) var<storage, read_write> dloss: array<f32>;
@group(0) @binding(1) var<storage, read_write> logits: array<Pack>;
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;
@group(0) @binding(3) var<storage, read_write> targets: array<u32>;
@group(0) @binding(4) var<storage, read_write> weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> dlogits: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = group.x + group.y * GRID_X;
  let row = tile / TILES;
  if (row >= ROWS) { return; }
  let scale = dloss[row] * weights[row];
  let norm = lse[row];
  let label = targets[row] - FIRST_TARGET; // wraps where it is before
  let first = (tile % TILES) * TILE;
  for (var i = first + lane; i < min(first + TILE, PACKS); i += WORKGROUP) {
    let hit = PackU(i * PACK) + PACK_INDEX == PackU(label);
    let p = exp(logits[row * PACKS + i] - Pack(norm));
    dlogits[row * PACKS + i] = scale * (p - select(Pack(0.0), Pack(1.0), hit));
  }
}
