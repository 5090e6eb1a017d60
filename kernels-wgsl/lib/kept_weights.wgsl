// What the second launch of attention_backward gets from the first: here all p and ds, [T, HEADS, 2, PITCH4] vectors of
// four keys, of every eight keys that a tile of rows went through.
const PITCH4: u32 = 2u; // of a row of keys, a multiple of two

@group(0) @binding(5) var<storage, read_write> weights: array<vec4f>;

// `place` is the first of the eight keys, counted from the start of its block: a multiple of eight.
fn keep_tile(row: u32, head: u32, place: u32, p: Eight, ds: Eight) {
  let at = (row * HEADS + head) * 2u * PITCH4 + place / 4u;
  weights[at] = p.low;
  weights[at + 1u] = p.high;
  weights[at + PITCH4] = ds.low;
  weights[at + PITCH4 + 1u] = ds.high;
}

fn keep_delta(row: u32, head: u32, value: f32) {}
