// rope: rotates the pairs of the first ROTATED heads of each row, in place, by the table row of its position.
// One pair per invocation.
//
// Per pair: 8 bytes read and 8 written, 8 bytes of table (from cache), 6 flops: memory limits.
const WIDTH: u32 = 8u; // elements in a row of x
const HEAD_DIM: u32 = 8u;
const ROTATED: u32 = 1u;
const HALF: u32 = 4u; // pairs in a head
const PAIRS: u32 = 4u; // in all rows
const INTERLEAVED: u32 = 0u;
const INVERSE: u32 = 0u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> positions: array<u32>;
@group(0) @binding(2) var<storage, read_write> table: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (index >= PAIRS) { return; }
  let i = index % HALF;
  let head = (index / HALF) % ROTATED;
  let row = index / (HALF * ROTATED);
  let at = positions[row] * 2u * HALF + i;
  let cosine = table[at];
  let sine = select(table[at + HALF], -table[at + HALF], INVERSE == 1u);
  let start = row * WIDTH + head * HEAD_DIM;
  let a = start + select(i, 2u * i, INTERLEAVED == 1u);
  let b = a + select(HALF, 1u, INTERLEAVED == 1u);
  let xa = x[a];
  let xb = x[b];
  x[a] = xa * cosine - xb * sine;
  x[b] = xb * cosine + xa * sine;
}
