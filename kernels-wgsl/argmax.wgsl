// argmax: y[t] = lowest index of the largest x[t,:], one workgroup per row.
//
// Bytes: 4 per element; 2 comparisons per element. Memory bandwidth is the limit.
const PACKS: u32 = 16u;
const ROWS: u32 = 1u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<Pack>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * GRID_X;
  if (row >= ROWS) { return; }
  let base = row * PACKS;
  // Lanes past the end look at the last pack again, which changes nothing.
  let first = min(lane, PACKS - 1u);
  var best = x[base + first];
  var place = PackU(first);
  for (var i = lane + WORKGROUP; i < PACKS; i += WORKGROUP) {
    let v = x[base + i];
    place = select(place, PackU(i), v > best);
    best = max(best, v);
  }
  let top = reduce_max(pack_max(best), lane);
  let index = select(PackU(0xffffffffu), place * PACK + PACK_INDEX, best == Pack(top));
  let lowest = reduce_min_u32(pack_min_u32(index), lane);
  if (lane == 0u) { y[row] = lowest; }
}
