// softmax: y[t,c] = exp(x[t,c] - max) / sum_c exp(x[t,c] - max), one workgroup per row. Linked with an exp_sum module.
//
// Bytes: 8 per element to memory (x read, y written), and 4 or 8 from cache: x once more, or twice where the maximum has
// a pass of its own. Flops: 5 and two exp per element. Memory bandwidth is the limit on a GPU, loads and stores on a
// software driver: a second exp costs less than keeping the first one in y and loading that.
const PACKS: u32 = 16u;
const ROWS: u32 = 1u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;
const PAIRS: u32 = PACKS / (2u * WORKGROUP) * (2u * WORKGROUP); // packs that are written two by two

@group(0) @binding(0) var<storage, read_write> x: array<Pack>;
@group(0) @binding(1) var<storage, read_write> y: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * GRID_X;
  if (row >= ROWS) { return; }
  let base = row * PACKS;
  let found = row_exp_sum(base, lane);
  let top = Pack(found.x);
  let scale = 1.0 / found.y;
  for (var i = lane; i < PAIRS; i += 2u * WORKGROUP) {
    let a = x[base + i];
    let b = x[base + i + WORKGROUP];
    y[base + i] = exp(a - top) * scale;
    y[base + i + WORKGROUP] = exp(b - top) * scale;
  }
  if (PAIRS < PACKS) {
    for (var i = PAIRS + lane; i < PACKS; i += WORKGROUP) { y[base + i] = exp(x[base + i] - top) * scale; }
  }
}
