/**
 * Floating point numbers of 16 bits and fewer as bits, and back. Every rounding is to nearest, ties to even, as kernels
 * must round too.
 */

const f32Scratch = new Float32Array(1)
const u32Scratch = new Uint32Array(f32Scratch.buffer)

/** f32 (rounded from the double given) to f16 bits, round to nearest even, subnormals kept. */
export function f16FromNumber(value: number): number {
  f32Scratch[0] = value
  const bits = u32Scratch[0]!
  const sign = (bits >>> 16) & 0x8000
  const magnitude = bits & 0x7fffffff
  if (magnitude > 0x7f800000) return sign | 0x7e00 // NaN
  if (magnitude >= 0x477ff000) return sign | 0x7c00 // rounds to infinity
  if (magnitude >= 0x38800000) {
    const rounded = magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)
    return sign | (rounded >>> 13)
  }
  if (magnitude < 0x33000000) return sign
  const shift = 126 - (magnitude >>> 23)
  const mantissa = (magnitude & 0x7fffff) | 0x800000
  const half = 2 ** (shift - 1)
  const quotient = mantissa >>> shift
  const rest = mantissa - quotient * 2 ** shift
  return sign | (quotient + (rest > half || (rest === half && (quotient & 1) === 1) ? 1 : 0))
}

export function f16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >>> 10) & 31
  const mantissa = bits & 1023
  if (exponent === 0) return sign * mantissa * 2 ** -24
  if (exponent === 31) return mantissa ? Number.NaN : sign * Number.POSITIVE_INFINITY
  return sign * (1024 + mantissa) * 2 ** (exponent - 25)
}

/** f32 (rounded from the double given) to bf16 bits, round to nearest even. */
export function bf16FromNumber(value: number): number {
  f32Scratch[0] = value
  const bits = u32Scratch[0]!
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff
}

export function bf16ToNumber(bits: number): number {
  u32Scratch[0] = (bits << 16) >>> 0
  return f32Scratch[0]!
}

/** Rounds to the nearest integer, ties to even. */
export function roundEven(x: number): number {
  const floor = Math.floor(x)
  const rest = x - floor
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1
  return floor % 2 === 0 ? floor : floor + 1
}

/** floor(log2(x)) of a positive finite double that is not subnormal. */
export function exponentOf(x: number): number {
  f64Scratch[0] = x
  return (f64Words[1]! >>> 20) - 1023
}

const f64Scratch = new Float64Array(1)
const f64Words = new Uint32Array(f64Scratch.buffer)

/**
 * Magnitude of a number in a format with `mantissa` bits behind the point and 2^least as its smallest normal number:
 * counted from zero on, so that the next code is the next number. Those past `most` become it.
 */
function magnitudeCode(size: number, mantissa: number, least: number, most: number): number {
  if (size < 2 ** (least - mantissa - 1)) return 0 // also where the exponent is none
  if (size === Number.POSITIVE_INFINITY) return most
  const exponent = Math.max(exponentOf(size), least)
  const steps = roundEven(size * 2 ** (mantissa - exponent))
  return Math.min(most, (exponent - least) * 2 ** mantissa + steps)
}

function magnitudeOf(code: number, mantissa: number, least: number): number {
  const exponent = Math.max((code >>> mantissa) - 1, 0)
  return (code - exponent * 2 ** mantissa) * 2 ** (exponent + least - mantissa)
}

const isNegative = (x: number): boolean => x < 0 || Object.is(x, -0)

/**
 * A number to E4M3 bits: sign, 4 bits of exponent with bias 7, 3 of mantissa, subnormals of 2^-9. No infinity: what is
 * past 448 becomes 448; NaN is 0x7f. Rounded once, from the double.
 * Source: OCP 8-bit Floating Point Specification (OFP8), revision 1.0, section 5; conversion with saturation.
 */
export function e4m3FromNumber(value: number): number {
  if (Number.isNaN(value)) return 0x7f
  return (isNegative(value) ? 0x80 : 0) | magnitudeCode(Math.abs(value), 3, -6, 0x7e)
}

export function e4m3ToNumber(bits: number): number {
  const code = bits & 0x7f
  if (code === 0x7f) return Number.NaN
  return (bits & 0x80 ? -1 : 1) * magnitudeOf(code, 3, -6)
}

/**
 * A number to E2M1 bits: sign, then 0, 0.5, 1, 1.5, 2, 3, 4 or 6; what is past 6 becomes 6. There is no NaN: none may
 * be given. Source: OCP Microscaling Formats (MX) Specification 1.0, section 5.3.3.
 */
export const e2m1FromNumber = (value: number): number =>
  (isNegative(value) ? 8 : 0) | magnitudeCode(Math.abs(value), 1, 0, 7)

export const e2m1ToNumber = (bits: number): number => (bits & 8 ? -1 : 1) * magnitudeOf(bits & 7, 1, 0)

/** A power of two as E8M0 bits gives it: 2^(bits - 127), and NaN for 0xff. MX specification 1.0, section 5.4.1. */
export const e8m0ToNumber = (bits: number): number => (bits === 0xff ? Number.NaN : 2 ** (bits - 127))
