// read_pair(i): elements 2i and 2i+1 of x as bits of f32, here stored as f16, by lib/unpack_f16.
fn read_pair(i: u32) -> vec2u {
  let word = x[i];
  return vec2u(f32_bits(word & 0xffffu), f32_bits(word >> 16u));
}
