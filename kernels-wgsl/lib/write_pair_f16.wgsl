// write_pair(i, bits): elements 2i and 2i+1 of y from bits of f32, here stored as f16 by lib/store_f16.
fn write_pair(i: u32, bits: vec2u) {
  y[i] = f16_bits(bits.x) | (f16_bits(bits.y) << 16u);
}
