// write_four(i, bits): elements 4i to 4i+3 of y from bits of f32, here stored as e4m3 by lib/store_e4m3.
fn write_four(i: u32, bits: vec4u) {
  y[i] = e4m3_word(bits);
}
