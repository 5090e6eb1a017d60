import { z } from 'zod'
import { check } from '../errors.ts'
import { lastDim, rowCount, sameShape, tensorType } from '../tensor/type.ts'
import { normal, values } from './cases.ts'
import { defineOp } from './contract.ts'
import { EPS_F32 } from './tolerance.ts'

/** y[t,c] = x[t,c] * weight[c] / sqrt(mean_c(x[t,:]^2) + eps) */
export const rms_norm = defineOp<{ eps: number }>({
  name: 'rms_norm',
  summary: 'y[t,c] = x[t,c] * weight[c] / sqrt(mean_c(x[t,:]^2) + eps)',
  source: 'Zhang and Sennrich, Root Mean Square Layer Normalization, 2019',
  inputs: {
    x: { doc: '[..., C]', formats: ['f32'] },
    weight: { doc: '[C]', formats: ['f32', 'f16', 'bf16'] },
  },
  outputs: { y: { doc: '[..., C]', formats: ['f32'] } },
  attributes: z.strictObject({ eps: z.number().nonnegative() }),
  infer(_attrs, { x, weight }) {
    check(sameShape(weight!.shape, [lastDim(x!.shape)]), 'invalid_shape', () => `rms_norm: weight must be [${lastDim(x!.shape)}], got [${weight!.shape}]`)
    return { y: tensorType('f32', ...x!.shape) }
  },
  gradient: {
    x: {
      input: ({ g, attrs, inputs, dOutputs }) =>
        g.op('rms_norm_backward_input', attrs, { dy: dOutputs.y, x: inputs.x, weight: inputs.weight }).dx!,
    },
    weight: {
      weight: ({ g, attrs, inputs, dOutputs }, accumulator) =>
        g.op('rms_norm_backward_weight', attrs, { accumulator, dy: dOutputs.y, x: inputs.x }).dweight!,
    },
  },
  reference({ attrs, inputs }, { x, weight }) {
    const width = lastDim(inputs.x!.shape)
    const y = new Float64Array(x!.length)
    for (let start = 0; start < y.length; start += width) {
      let sum = 0
      for (let c = 0; c < width; c++) sum += x![start + c]! ** 2
      const scale = 1 / Math.sqrt(sum / width + attrs.eps)
      for (let c = 0; c < width; c++) y[start + c] = x![start + c]! * scale * weight![c]!
    }
    return { y }
  },
  // Sum of C squares (relative error C * eps, halved by the root), inverse square root 2 ulp, three roundings.
  tolerance({ inputs }, _inputs, expected) {
    const ulps = lastDim(inputs.x!.shape) / 2 + 8
    return { y: (i) => Math.abs(expected.y![i]!) * ulps * EPS_F32 + 2 ** -120 }
  },
  flops: ({ inputs }) => 4 * rowCount(inputs.x!.shape) * lastDim(inputs.x!.shape),
  cases: [
    { name: 'one', attrs: { eps: 1e-5 }, inputs: { x: normal([1, 1]), weight: normal([1]) } },
    { name: 'prime', attrs: { eps: 1e-5 }, inputs: { x: normal([3, 37]), weight: normal([37]) } },
    { name: 'w64', attrs: { eps: 1e-6 }, inputs: { x: normal([5, 64]), weight: normal([64], 0.1, 'f32', 1) } },
    { name: 'past_tile', attrs: { eps: 1e-6 }, inputs: { x: normal([2, 257]), weight: normal([257], 0.1, 'f16', 1) } },
    { name: 'bf16_weight', attrs: { eps: 1e-6 }, inputs: { x: normal([2, 96]), weight: normal([96], 0.1, 'bf16', 1) } },
    { name: 'large_magnitude', attrs: { eps: 1e-5 }, inputs: { x: normal([2, 128], 1e4), weight: normal([128], 100) } },
    { name: 'zeros', attrs: { eps: 1e-5 }, inputs: { x: values([2, 32], [0]), weight: normal([32]) } },
  ],
})
