import type { FormatName } from '../tensor/format.ts'
import type { Tolerance } from './contract.ts'

/** Unit roundoff of f32: half the spacing of 1. */
export const EPS_F32 = 2 ** -24
/** Smallest normal f32; WGSL lets a device flush everything below it to zero. */
export const TINY_F32 = 2 ** -126

/** Unit roundoff of a format: half the spacing of 1. */
const unitRoundoff: Partial<Record<FormatName, number>> = { f16: 2 ** -11, bf16: 2 ** -8, e4m3: 2 ** -4 }
/** Half the spacing of a format's subnormals; those of bf16 may be flushed as those of f32. */
const halfSubnormal: Partial<Record<FormatName, number>> = { f16: 2 ** -25, bf16: TINY_F32, e4m3: 2 ** -10 }

/** Largest error of rounding `x` to a format of 16 or 8 bits; 0 for others, whose roundings count with the arithmetic. */
export const roundingError = (format: FormatName, x: number): number =>
  (unitRoundoff[format] ?? 0) * Math.abs(x) + (halfSubnormal[format] ?? 0)

/**
 * Tolerance of a result that is computed in f32, with the tolerance given, and stored in `format`: with 16 bits it is
 * rounded once more, and so is the number it is compared with.
 */
export const storedIn =
  (format: FormatName, inF32: Tolerance, expected: Float64Array): Tolerance =>
  (i) => {
    const before = inF32(i)
    return before + 2 * roundingError(format, Math.abs(expected[i]!) + before)
  }

/** Roundings of an element of a block format on its way to f32: quants times scales that are not exact. */
export const scaleRoundings: Partial<Record<FormatName, number>> = { e4m3_128: 1, nvfp4: 2 }

/** Tolerance of the f32 numbers that elements of a format are; the expected ones are rounded once. */
export const readFrom = (format: FormatName, expected: Float64Array): Tolerance =>
  scaleRoundings[format] ? relative(expected, (scaleRoundings[format] + 1) / 2) : exact

/** Every element must be the same number (integers, copies, comparisons). */
export const exact: Tolerance = () => 0

/**
 * `ulps` roundings relative to the expected value, plus `floor` absolute.
 * `expected` is the float64 reference before rounding.
 */
export const relative =
  (expected: Float64Array, ulps: number, floor = TINY_F32): Tolerance =>
  (i) =>
    Math.abs(expected[i]!) * ulps * 2 * EPS_F32 + floor

/**
 * Error of a sum of `terms` products in any order: terms * eps * sum|a*b| (Higham, Accuracy and Stability,
 * section 3.1). `magnitude(i)` is an upper bound of sum|a*b| for element i.
 */
export const dotProduct =
  (terms: number, magnitude: (i: number) => number): Tolerance =>
  (i) =>
    (terms + 2) * EPS_F32 * magnitude(i) + TINY_F32 * terms

/** Euclidean norm of each row of a [rows, width] array; |sum a*b| <= norm(a) * norm(b). */
export function rowNorms(x: Float64Array, width: number): Float64Array {
  const out = new Float64Array(x.length / width)
  for (let r = 0; r < out.length; r++) {
    let sum = 0
    for (let i = 0; i < width; i++) sum += x[r * width + i]! ** 2
    out[r] = Math.sqrt(sum)
  }
  return out
}

/** Euclidean norms of the columns of a [rows, width] array, of each group of rows for itself; a row of group -1 has none. */
export function columnNorms(
  x: Float64Array,
  width: number,
  groups = 1,
  groupOf: (row: number) => number = () => 0,
): Float64Array {
  const out = new Float64Array(groups * width)
  for (let i = 0; i < x.length; i++) {
    const group = groupOf(Math.floor(i / width))
    if (group >= 0) out[group * width + (i % width)]! += x[i]! ** 2
  }
  return out.map(Math.sqrt)
}

/**
 * Longest chain of additions in a sum over a row of `terms` elements. Kernels must keep at least four partial
 * sums (lanes, or the components of a vec4) and join those of up to 256 lanes in two levels of 16, as
 * lib/reduce_tree.wgsl does; adding the zero of an idle lane is exact.
 */
export const sumDepth = (terms: number): number => Math.min(terms, Math.ceil(terms / 4) + 32)

/**
 * Relative error of exp(a - b) for f32 a and b, with d = a - b: the subtraction rounds d by |d| * eps, which exp
 * turns into a relative error; exp itself is good to 3 + 2|d| ulp (WGSL, 15.7.4.1), an ulp being at most 2 eps.
 */
export const expError = (d: number): number => (6 + 5 * Math.abs(d)) * EPS_F32
