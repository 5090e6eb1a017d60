// rope: rotates the pairs of the first ROTATED heads of each row, in place, by the table row of its position.
// One Pack of pairs per invocation; four where the elements of four pairs lie side by side (layout half).
// Widths count Packs.
//
// Per pair: 8 bytes read and 8 written, 8 bytes of table (from cache), 6 flops: memory limits.
const WIDTH: u32 = 8u; // of a row of x
const HEAD: u32 = 8u; // of a head
const ROTATED: u32 = 1u; // heads
const HALF: u32 = 4u; // of the pairs of a head
const COUNT: u32 = 4u; // invocations that have work
const INTERLEAVED: u32 = 0u;
const INVERSE: u32 = 0u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<Pack>;
@group(0) @binding(1) var<storage, read_write> positions: array<u32>;
@group(0) @binding(2) var<storage, read_write> table: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (index >= COUNT) { return; }
  let i = index % HALF;
  let head = (index / HALF) % ROTATED;
  let row = index / (HALF * ROTATED);
  let at = positions[row] * 2u * HALF + i;
  let cosine = table[at];
  let sine = select(table[at + HALF], -table[at + HALF], INVERSE == 1u);
  let start = row * WIDTH + head * HEAD;
  let a = start + select(i, 2u * i, INTERLEAVED == 1u);
  let b = a + select(HALF, 1u, INTERLEAVED == 1u);
  let xa = x[a];
  let xb = x[b];
  x[a] = xa * cosine - xb * sine;
  x[b] = xb * cosine + xa * sine;
}
