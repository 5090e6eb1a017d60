// write_four(i, bits): elements 4i to 4i+3 of y from bits of f32, here stored as f16 by lib/store_f16.
fn write_four(i: u32, bits: vec4u) {
  y[2u * i] = f16_bits(bits.x) | (f16_bits(bits.y) << 16u);
  if (4u * i + 2u < COUNT) { y[2u * i + 1u] = f16_bits(bits.z) | (f16_bits(bits.w) << 16u); }
}
