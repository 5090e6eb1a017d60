// rms_norm: y[t,c] = x[t,c] * weight[c] / sqrt(mean(x[t,:]^2) + eps), one workgroup per row.
//
// Bytes: 8 per element (x once from memory, once from cache; y) + the weight; flops: 4 per element.
// Far below one flop per byte, so the limit is memory bandwidth.
const WIDTH: u32 = 64u;
const ROWS: u32 = 1u;
const EPS: f32 = 0.00001f;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

var<workgroup> partial: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * GRID_X;
  if (row >= ROWS) { return; }
  let base = row * WIDTH;
  var sum = 0.0;
  for (var c = lane; c < WIDTH; c += WORKGROUP) {
    let v = x[base + c];
    sum += v * v;
  }
  partial[lane] = sum;
  workgroupBarrier();
  for (var step = WORKGROUP / 2u; step > 0u; step >>= 1u) {
    if (lane < step) { partial[lane] += partial[lane + step]; }
    workgroupBarrier();
  }
  let scale = 1.0 / sqrt(partial[0] / f32(WIDTH) + EPS);
  for (var c = lane; c < WIDTH; c += WORKGROUP) {
    y[base + c] = x[base + c] * scale * load_vector(c);
  }
}
