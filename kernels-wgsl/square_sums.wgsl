// square_sums: sums[i] = sum of x^2 over tile i of at most 16,384 elements; one workgroup per tile. The launch binds the
// part of x that starts at FIRST, and makes the tiles that start in [FIRST, END).
//
// Bytes: 4 per element; flops: 2 per element. Memory bandwidth is the limit. The longest chain of additions is 16 in a
// lane, then 2 in the pack and 32 to join the lanes: the order depends on the tile's length alone.
const TILES: u32 = 1u;
const FIRST: u32 = 0u;
const END: u32 = 0xffffffffu;
const COUNT: u32 = 64u; // elements of the part
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 256u;

@group(0) @binding(0) var<storage, read_write> x: array<Pack>;
@group(0) @binding(1) var<storage, read_write> tiles: array<vec2u>; // start, count
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = group.x + group.y * GRID_X;
  if (tile >= TILES) { return; }
  // No branch around the join of the lanes: WGSL can't see that what was loaded is the same in all of them.
  let start = tiles[tile].x;
  let here = start >= FIRST && start < END;
  let first = select(COUNT, min(start - FIRST, COUNT), here);
  let count = min(tiles[tile].y, COUNT - first);
  var sum = Pack(0.0);
  for (var i = lane; i * PACK < count; i += WORKGROUP) {
    let inside = PackU(i * PACK) + PACK_INDEX < PackU(count);
    let v = select(Pack(0.0), x[first / PACK + i], inside);
    sum += v * v;
  }
  let total = reduce_add(pack_sum(sum), lane);
  if (lane == 0u && here) { sums[tile] = total; }
}
