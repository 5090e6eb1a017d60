// read_pair(i): elements 2i and 2i+1 of x as bits of f32, here stored as bf16.
fn read_pair(i: u32) -> vec2u {
  let word = x[i];
  return vec2u(word << 16u, word & 0xffff0000u);
}
