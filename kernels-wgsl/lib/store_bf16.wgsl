// bf16_bits: bits of an f32 to bits of the nearest bf16, ties to even, in integers. Same results as bf16FromNumber in
// src/tensor/format.ts.
fn bf16_bits(bits: u32) -> u32 {
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return (bits >> 16u) | 0x40u; } // NaN
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}
