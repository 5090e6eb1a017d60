// global_norm, first launch: partial[g] = sum of x^2 over tile g of TILE elements.
//
// Bytes: 4 per element; flops: 2 per element. Memory bandwidth is the limit. The longest chain of additions is
// TILE / WORKGROUP (/ 4 with packs of 4) in a lane, then 2 in the pack and 32 to join the lanes.
const PACKS: u32 = 16u;
const TILES: u32 = 1u;
const TILE: u32 = 16384u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 256u;

@group(0) @binding(0) var<storage, read_write> x: array<Pack>;
@group(0) @binding(1) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = group.x + group.y * GRID_X;
  if (tile >= TILES) { return; }
  let first = tile * (TILE / PACK);
  var sum = Pack(0.0);
  for (var i = first + lane; i < min(first + TILE / PACK, PACKS); i += WORKGROUP) {
    let v = x[i];
    sum += v * v;
  }
  let total = reduce_add(pack_sum(sum), lane);
  if (lane == 0u) { partial[tile] = total; }
}
