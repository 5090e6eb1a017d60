// norm_backward_input: gradient of a norm with respect to its input, one workgroup per row. With g = dy * weight,
// h = (x - mean) * inverse deviation and means over the row:
//   dx = inverse deviation * (g - mean(g) - h * mean(g * h)) + residual; the term mean(g) only where the norm subtracts
// a mean.
//
// Bytes: 12 per element (dy and x from memory, then from cache; dx), 4 of a residual, + weight; flops: 12 to 18 per element. Memory
// bandwidth is the limit.
const CENTERED: bool = false;
const PACKS: u32 = 16u; // packs of a row
const ROWS: u32 = 1u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> dy: array<Pack>;
@group(0) @binding(2) var<storage, read_write> x: array<Pack>;
@group(0) @binding(3) var<storage, read_write> dx: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * GRID_X;
  if (row >= ROWS) { return; }
  let base = row * PACKS;
  let own = row_statistics(base, lane);
  if (lane == 0u) { keep_statistics(row, own); }
  var g_sum = Pack(0.0);
  var gh_sum = Pack(0.0);
  for (var i = lane; i < PACKS; i += WORKGROUP) {
    let g = dy[base + i] * load_pack(i);
    g_sum += g;
    gh_sum += g * ((x[base + i] - Pack(own.x)) * own.y);
  }
  var g_mean = 0.0;
  if (CENTERED) { g_mean = reduce_add(pack_sum(g_sum), lane) / f32(PACKS * PACK); }
  let gh_mean = reduce_add(pack_sum(gh_sum), lane) / f32(PACKS * PACK);
  for (var i = lane; i < PACKS; i += WORKGROUP) {
    let g = dy[base + i] * load_pack(i);
    let h = (x[base + i] - Pack(own.x)) * own.y;
    dx[base + i] = add_residual(own.y * (g - Pack(g_mean) - h * gh_mean), base + i);
  }
}
