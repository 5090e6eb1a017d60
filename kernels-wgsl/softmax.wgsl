// softmax: y[t,c] = exp(x[t,c] - max) / sum_c exp(x[t,c] - max), one workgroup per row.
//
// Bytes: 8 per element to memory (x read, y written), and as much again from cache: x once more for the sum, y
// read and written again for the division. Flops: 3 and one exp per element. Memory bandwidth is the limit on a
// GPU, exp and loads on a software driver; keeping exp(x - max) in y costs a store and saves the second exp.
const PACKS: u32 = 16u;
const ROWS: u32 = 1u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<Pack>;
@group(0) @binding(1) var<storage, read_write> y: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * GRID_X;
  if (row >= ROWS) { return; }
  let base = row * PACKS;
  var highest = x[base + min(lane, PACKS - 1u)];
  for (var i = lane + WORKGROUP; i < PACKS; i += WORKGROUP) { highest = max(highest, x[base + i]); }
  let top = reduce_max(pack_max(highest), lane);
  var sum = Pack(0.0);
  for (var i = lane; i < PACKS; i += WORKGROUP) {
    let e = exp(x[base + i] - Pack(top));
    y[base + i] = e;
    sum += e;
  }
  let total = reduce_add(pack_sum(sum), lane);
  for (var i = lane; i < PACKS; i += WORKGROUP) { y[base + i] = y[base + i] / Pack(total); }
}
