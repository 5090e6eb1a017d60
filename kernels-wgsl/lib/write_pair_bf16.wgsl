// write_pair(i, bits): elements 2i and 2i+1 of y from bits of f32, here stored as bf16 by lib/store_bf16.
fn write_pair(i: u32, bits: vec2u) {
  y[i] = bf16_bits(bits.x) | (bf16_bits(bits.y) << 16u);
}
