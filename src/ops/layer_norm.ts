import { elementCount, lastDim, tensorType } from '../tensor/type.ts'
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

const SOURCE = 'Ba, Kiros and Hinton, Layer Normalization, 2016'

/** y[t,c] = (x[t,c] - mean_c(x[t,:])) / sqrt(var_c(x[t,:]) + eps) * weight[c] + bias[c] */
export const layer_norm = defineOp<NormAttributes>({
  name: 'layer_norm',
  summary: 'y[t,c] = (x[t,c] - mean_c(x[t,:])) / sqrt(var_c(x[t,:]) + eps) * weight[c] + bias[c]',
  source: SOURCE,
  inputs: {
    x: { doc: '[..., C]', formats: ['f32'] },
    weight: { doc: '[C]', formats: ['f32', 'f16', 'bf16'] },
    bias: { doc: '[C]', formats: ['f32', 'f16', 'bf16'] },
  },
  outputs: { y: normOutput },
  attributes: normAttributes,
  infer({ output }, inputs) {
    checkNormShapes('layer_norm', inputs)
    return { y: tensorType(output ?? 'f32', ...inputs.x!.shape) }
  },
  gradient: {
    x: {
      input: ({ g, attrs: { eps }, inputs: { x, weight }, dOutputs }) =>
        g.op('layer_norm_backward_input', { eps }, { dy: dOutputs.y, x, weight }).dx!,
    },
    weight: {
      weight: ({ g, attrs: { eps }, inputs: { x }, dOutputs }, accumulator) =>
        g.op('layer_norm_backward_weight', { eps }, { accumulator, dy: dOutputs.y, x }).dweight!,
    },
    bias: {
      weight: ({ g, dOutputs }, accumulator) =>
        g.op('bias_backward', {}, { accumulator, dy: dOutputs.y }).dbias!,
    },
  },
  reference({ attrs, inputs }, { x, weight, bias }) {
    const width = lastDim(inputs.x!.shape)
    const { hat } = normalizeRows(x!, width, attrs.eps, true)
    return { y: hat.map((h, i) => h * weight![i % width]! + bias![i % width]!) }
  },
  tolerance({ attrs, inputs, outputs }, { x, weight, bias }, { y }) {
    const width = lastDim(inputs.x!.shape)
    const { hat, hatError } = normalizeRows(x!, width, attrs.eps, true)
    const inF32: Tolerance = (i) => {
      const w = Math.abs(weight![i % width]!)
      return w * hatError[i]! + (2 * Math.abs(hat[i]!) * w + Math.abs(bias![i % width]!)) * EPS_F32 + TINY_F32
    }
    return { y: storedIn(outputs.y!.format, inF32, y!) }
  },
  flops: ({ inputs }) => 8 * elementCount(inputs.x!.shape),
  cases: [
    {
      name: 'one',
      attrs: { eps: 1e-5 },
      inputs: { x: normal([1, 1]), weight: normal([1]), bias: normal([1]) },
    },
    {
      name: 'prime',
      attrs: { eps: 1e-5 },
      inputs: { x: normal([3, 37]), weight: normal([37]), bias: normal([37]) },
    },
    {
      name: 'wide',
      attrs: { eps: 1e-5 },
      inputs: { x: normal([2, 1028], 1, 'f32', 3), weight: normal([1028]), bias: normal([1028]) },
    },
    {
      name: 'vectors',
      attrs: { eps: 1e-6 },
      inputs: {
        x: normal([2, 2, 64]),
        weight: normal([64], 0.1, 'bf16', 1),
        bias: normal([64], 0.1, 'bf16'),
      },
    },
    {
      name: 'past_tile',
      attrs: { eps: 1e-6 },
      inputs: { x: normal([2, 257]), weight: normal([257], 0.1, 'f16', 1), bias: normal([257], 1, 'f16') },
    },
    {
      name: 'mixed_formats',
      attrs: { eps: 1e-5 },
      inputs: { x: normal([2, 36]), weight: normal([36]), bias: normal([36], 1, 'f16') },
    },
    {
      name: 'large_mean',
      attrs: { eps: 1e-5 },
      inputs: { x: normal([2, 128], 1, 'f32', 1000), weight: normal([128]), bias: normal([128]) },
    },
    {
      name: 'large_magnitude',
      attrs: { eps: 1e-5 },
      inputs: { x: normal([2, 128], 1e4), weight: normal([128], 100), bias: normal([128]) },
    },
    {
      name: 'constant_rows',
      attrs: { eps: 1e-5 },
      inputs: { x: values([2, 32], [3]), weight: normal([32]), bias: normal([32]) },
    },
    {
      name: 'to_bf16',
      attrs: { eps: 1e-5, output: 'bf16' },
      inputs: { x: normal([3, 260], 1, 'f32', 3), weight: normal([260], 0.1, 'f32', 1), bias: normal([260]) },
    },
    {
      name: 'to_f16_odd_rows',
      attrs: { eps: 1e-5, output: 'f16' },
      inputs: { x: normal([3, 37]), weight: normal([37], 0.1, 'f16', 1), bias: normal([37], 1, 'f16') },
    },
  ],
})

/** Gradients of layer_norm with respect to x and, added to an accumulator, weight. */
export const layer_norm_backward_input = normBackwardInput('layer_norm', SOURCE)
export const layer_norm_backward_weight = normBackwardWeight('layer_norm', SOURCE)
