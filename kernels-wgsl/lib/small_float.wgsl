// small_magnitude: magnitude bits of an f32 to the code of the nearest number with so many bits of mantissa, ties to even;
// codes count from zero on, exponent `first` (of an f32) is that of the smallest normal number. Codes past the largest
// number are for the caller to cut. Same results as magnitudeCode in src/tensor/float_bits.ts.
fn small_magnitude(magnitude: u32, mantissa_bits: u32, first: u32) -> u32 {
  let exponent = magnitude >> 23u;
  if (exponent + mantissa_bits + 1u < first) { return 0u; } // below half of the smallest number
  // With the exponent of the result: subnormals have that of the smallest normal number.
  let shift = 23u - mantissa_bits + select(0u, first - exponent, exponent < first);
  let mantissa = (magnitude & 0x7fffffu) | 0x800000u;
  let half = 1u << (shift - 1u);
  let steps = (mantissa + half - 1u + ((mantissa >> shift) & 1u)) >> shift;
  return select(0u, (exponent - first) << mantissa_bits, exponent >= first) + steps;
}
