// read_pair(i): elements 2i and 2i+1 of x as bits of f32, here stored as f32; 0 past the last element.
fn read_pair(i: u32) -> vec2u {
  if (2u * i + 1u < COUNT) { return vec2u(x[2u * i], x[2u * i + 1u]); }
  return vec2u(x[2u * i], 0u);
}
