// write_four(i, bits): elements 4i to 4i+3 of y from bits of f32, here stored as f32.
fn write_four(i: u32, bits: vec4u) {
  let first = 4u * i;
  y[first] = bits.x;
  if (first + 1u < COUNT) { y[first + 1u] = bits.y; }
  if (first + 2u < COUNT) { y[first + 2u] = bits.z; }
  if (first + 3u < COUNT) { y[first + 3u] = bits.w; }
}
