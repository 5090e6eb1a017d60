// e4m3_bits: bits of an f32 to bits of the nearest e4m3, ties to even, by lib/small_float; what is past 448 becomes 448.
// Same results as e4m3FromNumber in src/tensor/float_bits.ts.
fn e4m3_bits(bits: u32) -> u32 {
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return 0x7fu; } // NaN
  return ((bits >> 24u) & 0x80u) | min(small_magnitude(magnitude, 3u, 121u), 0x7eu);
}
