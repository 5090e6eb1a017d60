// matmul_grouped: y[t,n] = sum_k x[t,k] * w[e,n,k], e being the expert of row t. One element of y per invocation; w is a
// matrix of all experts' rows, of which PART_ROWS from FIRST_ROW on are bound.
//
// Neighbours share a row of x and read rows of w side by side: 16 bytes of w, from cache but for the first row of an
// expert, for 8 flops: limited by loads.
const ROWS: u32 = 1u;
const COLUMNS: u32 = 1u;
const DEPTH4: u32 = 2u;
const FIRST_ROW: u32 = 0u;
const PART_ROWS: u32 = 1u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> offsets: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (i >= ROWS * COLUMNS) { return; }
  let row = i / COLUMNS;
  let expert = expert_of(row);
  if (expert == EXPERTS) {
    if (FIRST_ROW == 0u) { y[i] = 0.0; }
    return;
  }
  let w_row = expert * COLUMNS + i % COLUMNS;
  if (w_row < FIRST_ROW || w_row >= FIRST_ROW + PART_ROWS) { return; }
  var sum = vec4f();
  for (var k = 0u; k < DEPTH4; k++) {
    sum += x[row * DEPTH4 + k] * load_weight4((w_row - FIRST_ROW) * DEPTH4 + k);
  }
  y[i] = (sum.x + sum.y) + (sum.z + sum.w);
}
