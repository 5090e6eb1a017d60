// matmul_grouped_backward_weight: dw[e,n,k] += sum of dy[t,n] * x[t,k] over the rows t of expert e. Four neighbours of dw
// per invocation, of PART_ROWS rows of all experts' from FIRST_ROW on.
//
// Neighbours share an element of dy and read a row of x side by side: 16 bytes of x, from cache but for the first row of dw,
// for 8 flops: limited by loads.
const ROWS: u32 = 1u;
const WIDTH: u32 = 1u;
const COLUMNS4: u32 = 2u;
const FIRST_ROW: u32 = 0u;
const PART_ROWS: u32 = 1u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> dy: array<f32, ROWS * WIDTH>;
@group(0) @binding(1) var<storage, read_write> x: array<vec4f, ROWS * COLUMNS4>;
@group(0) @binding(2) var<storage, read_write> offsets: array<u32>;
@group(0) @binding(3) var<storage, read_write> dw: array<vec4f, PART_ROWS * COLUMNS4>;

// The first row of an expert, and behind its last. An offset below one before it counts as that one.
fn rows_of(expert: u32) -> vec2u {
  var first = 0u;
  var end = min(offsets[0], ROWS);
  for (var e = 0u; e <= expert; e++) {
    first = end;
    end = max(end, min(offsets[e + 1u], ROWS));
  }
  return vec2u(first, end);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (i >= PART_ROWS * COLUMNS4) { return; }
  let row = FIRST_ROW + i / COLUMNS4;
  let column = i % COLUMNS4;
  let rows = rows_of(row / WIDTH);
  var sum = vec4f();
  for (var t = rows.x; t < rows.y; t++) {
    sum += dy[t * WIDTH + row % WIDTH] * x[t * COLUMNS4 + column];
  }
  dw[i] += sum;
}
