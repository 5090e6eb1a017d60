// matmul_grouped_backward_input: dx[t,k] = sum_n dy[t,n] * w[e,n,k], e being the expert of row t. Four neighbours of dx per
// invocation; w is a matrix of all experts' rows, of which PART_ROWS from FIRST_ROW on are bound. A launch for each part:
// all but the first add to dx.
//
// Neighbours share an element of dy and read a row of w side by side: 16 bytes of w, from cache but for the first row of an
// expert, for 8 flops: limited by loads.
const ROWS: u32 = 1u;
const WIDTH: u32 = 1u;
const COLUMNS4: u32 = 2u;
const FIRST_ROW: u32 = 0u;
const PART_ROWS: u32 = 1u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> dy: array<f32, ROWS * WIDTH>;
@group(0) @binding(2) var<storage, read_write> offsets: array<u32>;
@group(0) @binding(3) var<storage, read_write> dx: array<vec4f, ROWS * COLUMNS4>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (i >= ROWS * COLUMNS4) { return; }
  let row = i / COLUMNS4;
  let column = i % COLUMNS4;
  let expert = expert_of(row);
  var sum = vec4f();
  if (FIRST_ROW > 0u) { sum = dx[i]; }
  if (expert < EXPERTS) {
    let first = expert * WIDTH;
    let end = min(first + WIDTH, FIRST_ROW + PART_ROWS);
    for (var n = max(first, FIRST_ROW); n < end; n++) {
      sum += dy[row * WIDTH + n - first] * load_weight4((n - FIRST_ROW) * COLUMNS4 + column);
    }
  }
  dx[i] = sum;
}
