import { z } from 'zod'
import { check } from '../errors.ts'
import { elementCount, lastDim, sameShape, tensorType } from '../tensor/type.ts'
import { normal, values } from './cases.ts'
import { type Case, defineOp, type OpContract } from './contract.ts'
import { checkNormShapes, normalizeRows } from './normalize.ts'
import { EPS_F32, sumDepth, TINY_F32 } from './tolerance.ts'

type Eps = { eps: number }
const attributes = z.strictObject({ eps: z.number().nonnegative() })
const rows = { doc: '[..., C]', formats: ['f32'] } as const
const anyRows = { doc: '[..., C]', formats: ['f32', 'f16', 'bf16'] } as const
const second = 'second derivatives are not used in training'

/**
 * Gradients of a norm y = h * weight (+ bias), h = (x - mean) * inverse deviation, for rms_norm (mean 0) and
 * layer_norm (centered): with g = dy * weight and means over a row,
 * dx = inverse deviation * (g - mean(g) - h * mean(g * h)), the term mean(g) only when centered;
 * dweight = accumulator + sum_t dy[t,:] * h[t,:].
 */
export function normBackwardOps(
  name: 'rms_norm' | 'layer_norm',
  source: string,
): { input: OpContract<Eps>; weight: OpContract<Eps> } {
  const centered = name === 'layer_norm'
  const input = defineOp<Eps>({
    name: `${name}_backward_input`,
    summary: `dx = inverse_deviation * (g - ${centered ? 'mean(g) - ' : ''}h * mean(g * h)) + residual, g = dy * weight, h = normalised x`,
    source,
    inputs: {
      dy: anyRows,
      x: rows,
      weight: { doc: '[C]', formats: ['f32', 'f16', 'bf16'] },
      residual: { doc: '[..., C], what x has of gradient besides', formats: ['f32'], optional: true },
    },
    outputs: { dx: rows },
    attributes,
    infer(_attrs, inputs) {
      const { x, residual } = inputs
      checkNormShapes(`${name}_backward_input`, inputs)
      check(
        !residual || sameShape(residual.shape, x!.shape),
        'invalid_shape',
        () => `${name}_backward_input: residual must be [${x!.shape}] like x, got [${residual!.shape}]`,
      )
      return { dx: x! }
    },
    gradient: { none: second },
    reference({ attrs, inputs }, { dy, x, weight, residual }) {
      const width = lastDim(inputs.x!.shape)
      const { hat, inverse } = normalizeRows(x!, width, attrs.eps, centered)
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
      return { dx }
    },
    tolerance({ attrs, inputs }, { dy, x, weight, residual }, { dx }) {
      const width = lastDim(inputs.x!.shape)
      const { hat, inverse, inverseError, hatError } = normalizeRows(x!, width, attrs.eps, centered)
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
      return { dx: (i) => budget[i]! + (residual ? EPS_F32 * Math.abs(dx![i]!) : 0) }
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
    ],
  })
  const weight = defineOp<Eps>({
    name: `${name}_backward_weight`,
    summary: 'dweight[c] = accumulator[c] + sum_t dy[t,c] * h[t,c], h = normalised x',
    source,
    inputs: { accumulator: { doc: '[C]', formats: ['f32'] }, dy: anyRows, x: rows },
    outputs: { dweight: { doc: '[C]', formats: ['f32'] } },
    attributes,
    infer(_attrs, inputs) {
      checkNormShapes(`${name}_backward_weight`, inputs)
      return { dweight: tensorType('f32', lastDim(inputs.x!.shape)) }
    },
    inPlace: { dweight: 'accumulator' },
    gradient: { none: second },
    reference({ attrs, inputs }, { accumulator, dy, x }) {
      const width = lastDim(inputs.x!.shape)
      const { hat } = normalizeRows(x!, width, attrs.eps, centered)
      const dweight = accumulator!.slice()
      for (let i = 0; i < hat.length; i++) dweight[i % width]! += dy![i]! * hat[i]!
      return { dweight }
    },
    tolerance({ attrs, inputs }, { accumulator, dy, x }) {
      const width = lastDim(inputs.x!.shape)
      const { hat, hatError } = normalizeRows(x!, width, attrs.eps, centered)
      const size = accumulator!.map(Math.abs)
      const shift = new Float64Array(width)
      for (let i = 0; i < hat.length; i++) {
        size[i % width]! += Math.abs(dy![i]! * hat[i]!)
        shift[i % width]! += Math.abs(dy![i]!) * hatError[i]!
      }
      const terms = x!.length / width
      return { dweight: (c) => (terms + 3) * EPS_F32 * size[c]! + shift[c]! + TINY_F32 * terms }
    },
    flops: ({ inputs }) => 8 * elementCount(inputs.x!.shape),
    cases: weightCases,
  })
  return { input, weight }
}

const weightCases: Case<Eps>[] = [
  {
    name: 'one',
    attrs: { eps: 1e-5 },
    inputs: { accumulator: normal([1]), dy: normal([1, 1]), x: normal([1, 1]) },
  },
  {
    name: 'prime',
    attrs: { eps: 1e-5 },
    inputs: { accumulator: normal([37]), dy: normal([3, 37]), x: normal([3, 37]) },
  },
  {
    name: 'past_chunk',
    attrs: { eps: 1e-6 },
    inputs: { accumulator: normal([16], 10), dy: normal([3, 23, 16]), x: normal([3, 23, 16]) },
  },
  {
    name: 'past_workgroup',
    attrs: { eps: 1e-6 },
    inputs: { accumulator: normal([260]), dy: normal([3, 260]), x: normal([3, 260], 1, 'f32', 2) },
  },
  {
    name: 'large_magnitude',
    attrs: { eps: 1e-5 },
    inputs: { accumulator: normal([32], 1e4), dy: normal([5, 32], 1e3), x: normal([5, 32], 1e4) },
  },
  {
    name: 'bf16',
    attrs: { eps: 1e-5 },
    inputs: { accumulator: normal([132]), dy: normal([35, 132], 1, 'bf16'), x: normal([35, 132]) },
  },
  {
    name: 'f16_odd_rows',
    attrs: { eps: 1e-5 },
    inputs: { accumulator: normal([37]), dy: normal([5, 37], 1, 'f16'), x: normal([5, 37]) },
  },
]
