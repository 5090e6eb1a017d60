// Divisions in integers, which round as they should on every driver. All take and give bits of positive f32.

// The f32 nearest to `bits` / (divisor 2^shift), for a divisor below 2^8 and quotients that are normal numbers: long
// division of the 24-bit mantissa, shifted left by 8, leaves 25 bits of quotient or more and a remainder to round by.
fn divided(bits: u32, divisor: u32, shift: u32) -> u32 {
  let mantissa = ((bits & 0x7fffffu) | 0x800000u) << 8u;
  let quotient = mantissa / divisor;
  return rounded(quotient, quotient * divisor != mantissa, (bits >> 23u) - 8u - shift);
}

// The f32 nearest to `bits` * factor, for a factor from 1 to 15.
fn multiplied(bits: u32, factor: u32) -> u32 {
  return rounded(((bits & 0x7fffffu) | 0x800000u) * factor, false, bits >> 23u);
}

// The f32 nearest to integer * 2^(exponent - 150), or to something behind it and before the next integer, if there is a
// rest. The integer is 2^23 or more.
fn rounded(integer: u32, rest: bool, exponent: u32) -> u32 {
  let drop = firstLeadingBit(integer) - 23u;
  if (drop == 0u) { return (exponent << 23u) + integer - 0x800000u; }
  let kept = integer >> drop;
  let left = ((integer & ((1u << drop) - 1u)) << 1u) | select(0u, 1u, rest);
  let half = 1u << drop;
  let up = left > half || (left == half && (kept & 1u) == 1u);
  // A carry out of the mantissa moves into the exponent as it should.
  return ((exponent + drop) << 23u) + (kept - 0x800000u) + select(0u, 1u, up);
}

// bits / divisor, cut to 8 significant bits and one more that says whether there is a rest: rounded to fewer bits, it
// becomes what the exact quotient becomes. The divisor is a normal number, the quotient below 2^128; below 2^-126 it is 0.
fn cut_quotient(bits: vec4u, divisor: u32) -> vec4u {
  let under = (divisor & 0x7fffffu) | 0x800000u;
  let over = (bits & vec4u(0x7fffffu)) | vec4u(0x800000u);
  let less = select(vec4u(0u), vec4u(1u), over < vec4u(under));
  let dividend = over << (vec4u(7u) + less);
  let quotient = dividend / under; // 128 to 255
  let exponent = vec4i(bits >> vec4u(23u)) - i32(divisor >> 23u) + 127 - vec4i(less);
  let rest = select(vec4u(0u), vec4u(1u), quotient * under != dividend);
  let cut = (vec4u(exponent) << vec4u(23u)) | ((quotient & vec4u(127u)) << vec4u(16u)) | rest;
  return select(cut, vec4u(0u), (exponent <= vec4i(0)) | (bits < vec4u(0x800000u)));
}

// A scale in f32 of numbers up to `largest`, largest / (divisor 2^shift): NaN if that is not finite, zero below 2^-100.
fn f32_scale(largest: u32, divisor: u32, shift: u32) -> u32 {
  if (largest >= 0x7f800000u) { return 0x7fc00000u; }
  if (largest < 0xd800000u) { return 0u; }
  let scale = divided(largest, divisor, shift);
  return select(scale, 0u, scale < 0xd800000u);
}
