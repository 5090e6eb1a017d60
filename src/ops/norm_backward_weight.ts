import { z } from 'zod'
import { check } from '../errors.ts'
import { elementCount, lastDim, rowCount, sameShape, type TensorType, tensorType } from '../tensor/type.ts'
import { normal, uniform } from './cases.ts'
import { type Case, defineOp, type OpCall, type OpContract, type Ports, type Tolerance } from './contract.ts'
import { checkNormShapes, type NormalizedRows, normalizeRows, normPorts, rowStatistics } from './normalize.ts'
import { EPS_F32, TINY_F32 } from './tolerance.ts'

type Eps = { eps: number }
const { rows, anyRows, vector } = normPorts

/**
 * Gradient of the weight of a norm (see norm_backward_input.ts), added to an accumulator: dweight = accumulator +
 * sum_t dy[t,:] * h[t,:]; of layer_norm, where wanted, that of its bias too, in the same pass over dy.
 */
export function normBackwardWeight(name: 'rms_norm' | 'layer_norm', source: string): OpContract<Eps> {
  const centered = name === 'layer_norm'
  return defineOp<Eps>({
    name: `${name}_backward_weight`,
    summary: `dweight[c] = accumulator[c] + sum_t dy[t,c] * h[t,c], h = normalised x${centered ? '; dbias[c] = bias_accumulator[c] + sum_t dy[t,c]' : ''}`,
    source,
    inputs: {
      accumulator: vector,
      dy: anyRows,
      x: rows,
      statistics: {
        doc: `${rowStatistics}; without them they are computed`,
        formats: ['f32'],
        optional: true,
      },
      ...(centered ? { bias_accumulator: { ...vector, optional: true } } : {}),
    },
    outputs: { dweight: vector, ...(centered ? { dbias: { ...vector, optional: true } } : {}) },
    attributes: z.strictObject({ eps: z.number().nonnegative() }),
    infer(_attrs, inputs) {
      const { x, statistics, bias_accumulator } = inputs
      const op = `${name}_backward_weight`
      checkNormShapes(op, inputs)
      check(
        !statistics || sameShape(statistics.shape, [rowCount(x!.shape), 2]),
        'invalid_shape',
        () =>
          `${op}: statistics must be [${rowCount(x!.shape)}, 2] for x [${x!.shape}], got [${statistics!.shape}]`,
      )
      const types: Record<string, TensorType> = { dweight: tensorType('f32', lastDim(x!.shape)) }
      if (bias_accumulator) types.dbias = bias_accumulator
      return types
    },
    inPlace: { dweight: 'accumulator', ...(centered ? { dbias: 'bias_accumulator' } : {}) },
    gradient: { none: 'second derivatives are not used in training' },
    reference(call, inputs) {
      const width = lastDim(call.inputs.x!.shape)
      const { hat } = hatOf(call, inputs, centered)
      const { dy, accumulator, bias_accumulator } = inputs
      const dweight = accumulator!.slice()
      const sums: Record<string, Float64Array> = { dweight }
      for (let i = 0; i < hat.length; i++) dweight[i % width]! += dy![i]! * hat[i]!
      if (!bias_accumulator) return sums
      const dbias = bias_accumulator.slice()
      for (let i = 0; i < hat.length; i++) dbias[i % width]! += dy![i]!
      return { ...sums, dbias }
    },
    tolerance(call, inputs) {
      const width = lastDim(call.inputs.x!.shape)
      const { hat, hatError } = hatOf(call, inputs, centered)
      const { accumulator, bias_accumulator, dy, x } = inputs
      const size = accumulator!.map(Math.abs)
      const shift = new Float64Array(width)
      const biasSize = bias_accumulator?.map(Math.abs)
      for (let i = 0; i < hat.length; i++) {
        size[i % width]! += Math.abs(dy![i]! * hat[i]!)
        shift[i % width]! += Math.abs(dy![i]!) * hatError[i]!
        if (biasSize) biasSize[i % width]! += Math.abs(dy![i]!)
      }
      const terms = x!.length / width
      const tiny = TINY_F32 * terms
      const errors: Record<string, Tolerance> = {
        dweight: (c) => (terms + 3) * EPS_F32 * size[c]! + shift[c]! + tiny,
      }
      if (biasSize) errors.dbias = (c) => terms * EPS_F32 * biasSize[c]! + tiny
      return errors
    },
    flops: ({ inputs }) =>
      ((inputs.statistics ? 4 : 8) + (inputs.bias_accumulator ? 1 : 0)) * elementCount(inputs.x!.shape),
    cases: centered ? [...weightCases, ...biasCases] : weightCases,
  })
}

/** Normalised x, by the statistics that are given or by its own, with its error. */
function hatOf(
  { attrs, inputs }: OpCall<Eps>,
  { x, statistics }: Ports<Float64Array>,
  centered: boolean,
): Pick<NormalizedRows, 'hat' | 'hatError'> {
  const width = lastDim(inputs.x!.shape)
  if (!statistics) return normalizeRows(x!, width, attrs.eps, centered)
  const of = (i: number): number => 2 * Math.floor(i / width)
  const hat = x!.map((v, i) => (v - statistics[of(i)]!) * statistics[of(i) + 1]!)
  // A difference and a product.
  return { hat, hatError: hat.map((v) => 2 * EPS_F32 * Math.abs(v)) }
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
  {
    name: 'statistics',
    attrs: { eps: 1e-5 },
    inputs: {
      accumulator: normal([132]),
      dy: normal([35, 132], 1, 'bf16'),
      x: normal([35, 132]),
      statistics: uniform([35, 2], 0.5, 1.5),
    },
  },
]

/** With the gradient of the bias. */
const biasCases: Case<Eps>[] = [
  {
    name: 'bias',
    attrs: { eps: 1e-5 },
    inputs: {
      accumulator: normal([132]),
      dy: normal([2, 35, 132], 1, 'bf16'),
      x: normal([2, 35, 132]),
      statistics: uniform([70, 2], 0.5, 1.5),
      bias_accumulator: normal([132], 10),
    },
  },
  {
    name: 'bias_odd',
    attrs: { eps: 1e-5 },
    inputs: {
      accumulator: normal([37]),
      dy: normal([67, 37], 1, 'f16'),
      x: normal([67, 37]),
      bias_accumulator: normal([37]),
    },
  },
]
