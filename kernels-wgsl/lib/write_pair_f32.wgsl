// write_pair(i, bits): elements 2i and 2i+1 of y from bits of f32, here stored as f32.
fn write_pair(i: u32, bits: vec2u) {
  y[2u * i] = bits.x;
  if (2u * i + 1u < COUNT) { y[2u * i + 1u] = bits.y; }
}
