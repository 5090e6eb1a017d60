import { z } from 'zod'
import { check } from '../errors.ts'
import { elementCount, lastDim, rowCount, sameShape, tensorType } from '../tensor/type.ts'
import { normal, values } from './cases.ts'
import { defineOp, type OpContract, type Tolerance } from './contract.ts'
import { checkNormShapes, type NormalizedRows, normalizeRows, normPorts, rowStatistics } from './normalize.ts'
import { EPS_F32, storedIn, sumDepth, TINY_F32 } from './tolerance.ts'

type InputAttributes = {
  eps: number
  /** Gives dx a second time, in this format, for products that read it so beside a residual stream in f32. */
  rounded?: 'f16' | 'bf16' | undefined
  /** Gives the statistics of rows too, which the gradient of the weight needs. */
  statistics?: boolean | undefined
}
const inputAttributes = z.strictObject({
  eps: z.number().nonnegative(),
  rounded: z.enum(['f16', 'bf16']).optional(),
  statistics: z.boolean().optional(),
})

const { rows, anyRows } = normPorts

/**
 * Gradient of a norm y = h * weight (+ bias), h = (x - mean) * inverse deviation, for rms_norm (mean 0) and layer_norm
 * (centered), with respect to x: with g = dy * weight and means over a row,
 * dx = inverse deviation * (g - mean(g) - h * mean(g * h)), the term mean(g) only when centered.
 */
export function normBackwardInput(
  name: 'rms_norm' | 'layer_norm',
  source: string,
): OpContract<InputAttributes> {
  const centered = name === 'layer_norm'
  return defineOp<InputAttributes>({
    name: `${name}_backward_input`,
    summary: `dx = inverse_deviation * (g - ${centered ? 'mean(g) - ' : ''}h * mean(g * h)) + residual, g = dy * weight, h = normalised x`,
    source,
    inputs: {
      dy: anyRows,
      x: rows,
      weight: { doc: '[C]', formats: ['f32', 'f16', 'bf16'] },
      residual: { doc: '[..., C], what x has of gradient besides', formats: ['f32'], optional: true },
    },
    outputs: {
      dx: rows,
      dx_rounded: { doc: '[..., C], with `rounded`', formats: ['f16', 'bf16'], optional: true },
      statistics: { doc: `${rowStatistics}, with \`statistics\``, formats: ['f32'], optional: true },
    },
    attributes: inputAttributes,
    infer(attrs, inputs) {
      const { x, residual } = inputs
      checkNormShapes(`${name}_backward_input`, inputs)
      check(
        !residual || sameShape(residual.shape, x!.shape),
        'invalid_shape',
        () => `${name}_backward_input: residual must be [${x!.shape}] like x, got [${residual!.shape}]`,
      )
      return {
        dx: x!,
        ...(attrs.rounded ? { dx_rounded: tensorType(attrs.rounded, ...x!.shape) } : {}),
        ...(attrs.statistics ? { statistics: tensorType('f32', rowCount(x!.shape), 2) } : {}),
      }
    },
    gradient: { none: 'second derivatives are not used in training' },
    reference({ attrs, inputs }, { dy, x, weight, residual }) {
      const width = lastDim(inputs.x!.shape)
      const { hat, mean, inverse } = normalizeRows(x!, width, attrs.eps, centered)
      const dx = new Float64Array(x!.length)
      for (let start = 0; start < dx.length; start += width) {
        let g = 0
        let gh = 0
        for (let c = 0; c < width; c++) {
          g += dy![start + c]! * weight![c]!
          gh += dy![start + c]! * weight![c]! * hat[start + c]!
        }
        for (let c = 0; c < width; c++)
          dx[start + c] =
            inverse[start / width]! *
              (dy![start + c]! * weight![c]! - (centered ? g / width : 0) - (hat[start + c]! * gh) / width) +
            (residual?.[start + c] ?? 0)
      }
      return {
        dx,
        ...(attrs.rounded ? { dx_rounded: dx.slice() } : {}),
        ...(attrs.statistics ? { statistics: interleaved(mean, inverse) } : {}),
      }
    },
    tolerance({ attrs, inputs }, { dy, x, weight, residual }, { dx }) {
      const width = lastDim(inputs.x!.shape)
      const normalized = normalizeRows(x!, width, attrs.eps, centered)
      const { hat, inverse, inverseError, hatError } = normalized
      const sum = (sumDepth(width) + 8) * EPS_F32
      const budget = new Float64Array(x!.length)
      for (let start = 0; start < budget.length; start += width) {
        const row = start / width
        let [gSize, ghSize, ghShift] = [0, 0, 0]
        for (let c = 0; c < width; c++) {
          const g = Math.abs(dy![start + c]! * weight![c]!) / width
          gSize += g
          ghSize += g * Math.abs(hat[start + c]!)
          ghShift += g * hatError[start + c]!
        }
        if (!centered) gSize = 0
        const ghError = sum * ghSize + ghShift
        for (let c = 0; c < width; c++) {
          const size = Math.abs(dy![start + c]! * weight![c]!) + gSize + Math.abs(hat[start + c]!) * ghSize
          budget[start + c] =
            inverse[row]! *
              ((inverseError[row]! + 6 * EPS_F32) * size +
                sum * gSize +
                Math.abs(hat[start + c]!) * ghError +
                ghSize * hatError[start + c]!) +
            TINY_F32 * (1 + inverse[row]!)
        }
      }
      // With a residual one more addition.
      const inF32: Tolerance = (i) => budget[i]! + (residual ? EPS_F32 * Math.abs(dx![i]!) : 0)
      return {
        dx: inF32,
        ...(attrs.rounded ? { dx_rounded: storedIn(attrs.rounded, inF32, dx!) } : {}),
        ...(attrs.statistics ? { statistics: statisticsError(normalized) } : {}),
      }
    },
    flops: ({ inputs }) => 16 * elementCount(inputs.x!.shape),
    cases: [
      {
        name: 'one',
        attrs: { eps: 1e-5 },
        inputs: { dy: normal([1, 1]), x: normal([1, 1]), weight: normal([1]) },
      },
      {
        name: 'prime',
        attrs: { eps: 1e-5 },
        inputs: { dy: normal([3, 37]), x: normal([3, 37]), weight: normal([37]) },
      },
      {
        name: 'vectors',
        attrs: { eps: 1e-6 },
        inputs: { dy: normal([2, 2, 64]), x: normal([2, 2, 64]), weight: normal([64], 0.1, 'bf16', 1) },
      },
      {
        name: 'past_tile',
        attrs: { eps: 1e-6 },
        inputs: { dy: normal([2, 257]), x: normal([2, 257]), weight: normal([257], 0.1, 'f16', 1) },
      },
      {
        name: 'large_magnitude',
        attrs: { eps: 1e-5 },
        inputs: { dy: normal([2, 128], 1e3), x: normal([2, 128], 1e4), weight: normal([128], 100) },
      },
      {
        name: 'zeros',
        attrs: { eps: 1e-5 },
        inputs: { dy: normal([2, 32]), x: values([2, 32], [0]), weight: normal([32]) },
      },
      {
        name: 'bf16',
        attrs: { eps: 1e-5 },
        inputs: {
          dy: normal([3, 260], 1, 'bf16'),
          x: normal([3, 260]),
          weight: normal([260], 0.1, 'f32', 1),
        },
      },
      {
        name: 'f16_odd_rows',
        attrs: { eps: 1e-5 },
        inputs: { dy: normal([3, 37], 1, 'f16'), x: normal([3, 37]), weight: normal([37], 0.1, 'f16', 1) },
      },
      {
        name: 'residual',
        attrs: { eps: 1e-5 },
        inputs: {
          dy: normal([5, 132], 1, 'bf16'),
          x: normal([5, 132]),
          weight: normal([132], 0.1, 'f32', 1),
          residual: normal([5, 132], 3),
        },
      },
      {
        name: 'residual_odd',
        attrs: { eps: 1e-5 },
        inputs: {
          dy: normal([3, 37]),
          x: normal([3, 37]),
          weight: normal([37], 0.1, 'bf16', 1),
          residual: normal([3, 37], 1e3),
        },
      },
      {
        name: 'rounded',
        attrs: { eps: 1e-5, rounded: 'bf16', statistics: true },
        inputs: {
          dy: normal([5, 132], 1, 'bf16'),
          x: normal([5, 132], 2, 'f32', 1),
          weight: normal([132], 0.1, 'f32', 1),
          residual: normal([5, 132], 3),
        },
      },
      {
        name: 'rounded_wide',
        attrs: { eps: 1e-5, rounded: 'f16', statistics: true },
        inputs: { dy: normal([2, 1100]), x: normal([2, 1100]), weight: normal([1100], 0.1, 'f32', 1) },
      },
      {
        name: 'statistics_odd',
        attrs: { eps: 1e-5, statistics: true },
        inputs: { dy: normal([3, 37]), x: normal([3, 37], 1, 'f32', 3), weight: normal([37]) },
      },
    ],
  })
}

/** [rows, 2] of two values for each row. */
const interleaved = (first: Float64Array, second: Float64Array): Float64Array =>
  Float64Array.from({ length: 2 * first.length }, (_, i) => (i % 2 === 0 ? first : second)[i >> 1]!)

function statisticsError({ meanError, inverse, inverseError }: NormalizedRows): Tolerance {
  const errors = interleaved(
    meanError,
    inverse.map((v, row) => v * inverseError[row]!),
  )
  return (i) => errors[i]! + TINY_F32
}
