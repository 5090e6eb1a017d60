// small_magnitude: magnitude bits of f32 to the codes of the nearest numbers with so many bits of mantissa, ties to even;
// codes count from zero on, exponent `first` (of an f32) is that of the smallest normal number. Codes past the largest
// number are for the caller to cut. Same results as magnitudeCode in src/tensor/float_bits.ts.
fn small_magnitude(magnitude: vec4u, mantissa_bits: u32, first: u32) -> vec4u {
  let exponent = magnitude >> vec4u(23u);
  // With the exponent of the result: subnormals have that of the smallest normal number. Below half of the smallest
  // number, nothing is left.
  let under = vec4u(first) - min(exponent, vec4u(first));
  let shift = min(under, vec4u(mantissa_bits + 1u)) + 23u - mantissa_bits;
  let mantissa = (magnitude & vec4u(0x7fffffu)) | vec4u(0x800000u);
  let half = vec4u(1u) << (shift - 1u);
  let steps = (mantissa + half - 1u + ((mantissa >> shift) & vec4u(1u))) >> shift;
  let code = ((exponent - min(exponent, vec4u(first))) << vec4u(mantissa_bits)) + steps;
  return select(code, vec4u(0u), under > vec4u(mantissa_bits + 1u));
}
