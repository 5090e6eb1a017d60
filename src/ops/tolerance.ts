import type { Tolerance } from './contract.ts'

/** Unit roundoff of f32: half the spacing of 1. */
export const EPS_F32 = 2 ** -24
/** Smallest normal f32; WGSL lets a device flush everything below it to zero. */
export const TINY_F32 = 2 ** -126

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
