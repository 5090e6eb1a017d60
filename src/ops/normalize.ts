import { z } from 'zod'
import { check } from '../errors.ts'
import { lastDim, sameShape, type TensorType } from '../tensor/type.ts'
import type { Port, Ports } from './contract.ts'
import { EPS_F32, sumDepth } from './tolerance.ts'

export type NormAttributes = {
  eps: number
  /** Format of y where it is not f32. */
  output?: 'f16' | 'bf16' | undefined
}

export const normAttributes = z.strictObject({
  eps: z.number().nonnegative(),
  output: z.enum(['f16', 'bf16']).optional(),
})

export const normOutput: Port = { doc: '[..., C]', formats: ['f32', 'f16', 'bf16'] }

/** Ports of gradients of norms. */
export const normPorts = {
  rows: { doc: '[..., C]', formats: ['f32'] },
  anyRows: { doc: '[..., C]', formats: ['f32', 'f16', 'bf16'] },
  vector: { doc: '[C]', formats: ['f32'] },
} as const satisfies Ports<Port>

export const rowStatistics =
  '[rows, 2], the mean (0 where none is subtracted) and the inverse deviation of each row of x'

/** Rows brought to unit deviation in float64, and what doing so in f32 may cost. */
export interface NormalizedRows {
  /** (x - mean) * inverse, [rows, width]; mean is 0 where rows are not centered. */
  readonly hat: Float64Array
  /** [rows]. */
  readonly mean: Float64Array
  /** Absolute error of `mean` in f32, [rows]. */
  readonly meanError: Float64Array
  /** 1 / sqrt(mean((x - mean)^2) + eps), [rows]. */
  readonly inverse: Float64Array
  /** Relative error of `inverse` in f32, [rows]. */
  readonly inverseError: Float64Array
  /** Absolute error of `hat` in f32, [rows, width]. */
  readonly hatError: Float64Array
}

/**
 * The normalisation shared by rms_norm (not centered) and layer_norm (centered) and their gradients.
 * Errors: a mean is a sum of `width` terms and a division (2.5 ulp); an error m of the mean shifts each x - mean
 * by m and the variance by m^2 (the first order cancels, as x - mean sums to zero); the inverse square root
 * halves the relative error below it and adds 2 ulp.
 */
export function normalizeRows(
  x: Float64Array,
  width: number,
  eps: number,
  centered: boolean,
): NormalizedRows {
  const rows = x.length / width
  const hat = new Float64Array(x.length)
  const hatError = new Float64Array(x.length)
  const means = new Float64Array(rows)
  const meanErrors = new Float64Array(rows)
  const inverse = new Float64Array(rows)
  const inverseError = new Float64Array(rows)
  const sum = (sumDepth(width) + 6) * EPS_F32
  for (let row = 0; row < rows; row++) {
    const own = x.subarray(row * width, (row + 1) * width)
    const mean = centered ? own.reduce((a, v) => a + v, 0) / width : 0
    const meanError = centered ? (sum * own.reduce((a, v) => a + Math.abs(v), 0)) / width : 0
    const variance = own.reduce((a, v) => a + (v - mean) ** 2, 0) / width
    const scale = 1 / Math.sqrt(variance + eps)
    const varianceError = (sum + 3 * EPS_F32) * variance + meanError ** 2 + EPS_F32 * (variance + eps)
    means[row] = mean
    meanErrors[row] = meanError
    inverse[row] = scale
    inverseError[row] = (varianceError * scale * scale) / 2 + 4 * EPS_F32
    for (let c = 0; c < width; c++) {
      const distance = own[c]! - mean
      const i = row * width + c
      hat[i] = distance * scale
      hatError[i] =
        scale * (meanError + (centered ? EPS_F32 * (Math.abs(distance) + meanError) : 0)) +
        Math.abs(hat[i]!) * (inverseError[row]! + EPS_F32)
    }
  }
  return { hat, mean: means, meanError: meanErrors, inverse, inverseError, hatError }
}

/** Vectors must be [C], dy must have x's shape. */
export function checkNormShapes(op: string, inputs: Ports<TensorType>): void {
  const { x, weight, bias, accumulator, bias_accumulator, dy } = inputs
  const vector = [lastDim(x!.shape)]
  for (const [port, type] of Object.entries({ weight, bias, accumulator, bias_accumulator }))
    check(
      !type || sameShape(type.shape, vector),
      'invalid_shape',
      () => `${op}: ${port} must be [${vector}] for x [${x!.shape}], got [${type!.shape}]`,
    )
  check(
    !dy || sameShape(dy.shape, x!.shape),
    'invalid_shape',
    () => `${op}: dy must be [${x!.shape}] like x, got [${dy!.shape}]`,
  )
}
