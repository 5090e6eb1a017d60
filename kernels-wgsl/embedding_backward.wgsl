// embedding_backward: dtable[v,:] += sum over t with row_of(ids[t]) = v of dy[t,:], in the order of t, without atomics.
//
// A workgroup stands for one position t and LANES * PACKS packs of the width. It leaves when an earlier position
// has the same id, so exactly one workgroup adds to each row of the table that occurs, and rows that don't occur
// cost nothing. Reads: every dy once, 4 T bytes of ids per distinct id; flops: one per element of dy. With few
// distinct ids memory is the limit, with T of them the T^2 / 2 comparisons (8 million for T = 4,096), four at a time.
const ROWS: u32 = 1u;
const WIDTH: u32 = 16u; // in packs
// The rows of the table that are bound: large tables take several launches.
const FIRST_ROW: u32 = 0u;
const PART_ROWS: u32 = 1u;
const LANES: u32 = 64u;
const PACKS: u32 = 1u;
const TILES_X: u32 = 1u;
const TILES: u32 = 1u;
const GRID_X: u32 = 65535u;

@group(0) @binding(0) var<storage, read_write> ids: array<u32>;
@group(0) @binding(1) var<storage, read_write> dy: array<Pack>;
@group(0) @binding(2) var<storage, read_write> dtable: array<Pack>;

// Ids from `first` on; of those past `end`, the last before it.
fn four_ids(first: u32, end: u32) -> vec4u {
  let last = end - 1u;
  return vec4u(ids[first], ids[min(first + 1u, last)], ids[min(first + 2u, last)], ids[min(first + 3u, last)]);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = group.x + group.y * GRID_X;
  if (tile >= TILES) { return; }
  let position = tile / TILES_X;
  let id = ids[position];
  let row = row_of(id);
  if (row < FIRST_ROW || row >= FIRST_ROW + PART_ROWS) { return; }
  for (var t = 0u; t < position; t += 4u) {
    if (any(four_ids(t, position) == vec4u(id))) { return; }
  }
  let column = tile % TILES_X * (LANES * PACKS) + lane;
  var sums: array<Pack, PACKS>;
  for (var first = position; first < ROWS; first += 4u) {
    if (!any(four_ids(first, ROWS) == vec4u(id))) { continue; }
    for (var t = first; t < min(first + 4u, ROWS); t++) {
      if (ids[t] == id) {
        for (var i = 0u; i < PACKS; i++) { sums[i] += dy[t * WIDTH + min(column + i * LANES, WIDTH - 1u)]; }
      }
    }
  }
  for (var i = 0u; i < PACKS; i++) {
    let c = column + i * LANES;
    if (c < WIDTH) { dtable[(row - FIRST_ROW) * WIDTH + c] += sums[i]; }
  }
}
