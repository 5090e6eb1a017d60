import { lastDim, rowCount, tensorType } from '../tensor/type.ts'
import { normal, values } from './cases.ts'
import { defineOp, type Tolerance } from './contract.ts'
import { normBackwardInput } from './norm_backward_input.ts'
import { normBackwardWeight } from './norm_backward_weight.ts'
import {
  checkNormShapes,
  type NormAttributes,
  normAttributes,
  normalizeRows,
  normOutput,
} from './normalize.ts'
import { EPS_F32, storedIn, TINY_F32 } from './tolerance.ts'

const SOURCE = 'Zhang and Sennrich, Root Mean Square Layer Normalization, 2019'

/** y[t,c] = x[t,c] * weight[c] / sqrt(mean_c(x[t,:]^2) + eps) */
export const rms_norm = defineOp<NormAttributes>({
  name: 'rms_norm',
  summary: 'y[t,c] = x[t,c] * weight[c] / sqrt(mean_c(x[t,:]^2) + eps)',
  source: SOURCE,
  inputs: {
    x: { doc: '[..., C]', formats: ['f32'] },
    weight: { doc: '[C]', formats: ['f32', 'f16', 'bf16'] },
  },
  outputs: { y: normOutput },
  attributes: normAttributes,
  infer({ output }, inputs) {
    checkNormShapes('rms_norm', inputs)
    return { y: tensorType(output ?? 'f32', ...inputs.x!.shape) }
  },
  gradient: {
    x: {
      input: ({ g, attrs: { eps }, inputs: { x, weight }, dOutputs }) =>
        g.op('rms_norm_backward_input', { eps }, { dy: dOutputs.y, x, weight }).dx!,
    },
    weight: {
      weight: ({ g, attrs: { eps }, inputs: { x }, dOutputs }, accumulator) =>
        g.op('rms_norm_backward_weight', { eps }, { accumulator, dy: dOutputs.y, x }).dweight!,
    },
  },
  reference({ attrs, inputs }, { x, weight }) {
    const width = lastDim(inputs.x!.shape)
    const { hat } = normalizeRows(x!, width, attrs.eps, false)
    return { y: hat.map((h, i) => h * weight![i % width]!) }
  },
  tolerance({ attrs, inputs, outputs }, { x, weight }, { y }) {
    const width = lastDim(inputs.x!.shape)
    const { hatError } = normalizeRows(x!, width, attrs.eps, false)
    const inF32: Tolerance = (i) =>
      hatError[i]! * Math.abs(weight![i % width]!) + Math.abs(y![i]!) * EPS_F32 + TINY_F32
    return { y: storedIn(outputs.y!.format, inF32, y!) }
  },
  flops: ({ inputs }) => 4 * rowCount(inputs.x!.shape) * lastDim(inputs.x!.shape),
  cases: [
    { name: 'one', attrs: { eps: 1e-5 }, inputs: { x: normal([1, 1]), weight: normal([1]) } },
    { name: 'prime', attrs: { eps: 1e-5 }, inputs: { x: normal([3, 37]), weight: normal([37]) } },
    {
      name: 'w64',
      attrs: { eps: 1e-6 },
      inputs: { x: normal([5, 64]), weight: normal([64], 0.1, 'f32', 1) },
    },
    {
      name: 'wide',
      attrs: { eps: 1e-6 },
      inputs: { x: normal([2, 1028]), weight: normal([1028], 0.1, 'f32', 1) },
    },
    {
      name: 'past_tile',
      attrs: { eps: 1e-6 },
      inputs: { x: normal([2, 257]), weight: normal([257], 0.1, 'f16', 1) },
    },
    {
      name: 'bf16_weight',
      attrs: { eps: 1e-6 },
      inputs: { x: normal([2, 96]), weight: normal([96], 0.1, 'bf16', 1) },
    },
    {
      name: 'large_magnitude',
      attrs: { eps: 1e-5 },
      inputs: { x: normal([2, 128], 1e4), weight: normal([128], 100) },
    },
    { name: 'zeros', attrs: { eps: 1e-5 }, inputs: { x: values([2, 32], [0]), weight: normal([32]) } },
    {
      name: 'to_bf16',
      attrs: { eps: 1e-5, output: 'bf16' },
      inputs: { x: normal([3, 260]), weight: normal([260], 0.1, 'f32', 1) },
    },
    {
      name: 'to_f16_odd_rows',
      attrs: { eps: 1e-5, output: 'f16' },
      inputs: { x: normal([3, 37]), weight: normal([37], 0.1, 'f16', 1) },
    },
  ],
})

/** Gradients of rms_norm with respect to x and, added to an accumulator, weight. */
export const rms_norm_backward_input = normBackwardInput('rms_norm', SOURCE)
export const rms_norm_backward_weight = normBackwardWeight('rms_norm', SOURCE)
