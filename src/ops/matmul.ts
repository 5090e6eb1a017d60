import { z } from 'zod'
import { check } from '../errors.ts'
import { weightFormats } from '../tensor/format.ts'
import { lastDim, rowCount, sameShape, tensorType } from '../tensor/type.ts'
import { normal } from './cases.ts'
import { defineOp } from './contract.ts'
import { EPS_F32, rowNorms } from './tolerance.ts'

/** y = activation(x w^T + bias) + residual, weights as models store them: row-major [out, in]. */
export const matmul = defineOp<{ activation: 'none' | 'gelu_tanh' | 'silu' }>({
  name: 'matmul',
  summary: 'y[t,n] = activation(sum_k x[t,k] * w[n,k] + bias[n]) + residual[t,n]',
  inputs: {
    x: { doc: '[..., K]', formats: ['f32'] },
    w: { doc: '[N, K]', formats: weightFormats },
    bias: { doc: '[N]', formats: ['f32', 'f16', 'bf16'], optional: true },
    residual: { doc: '[..., N]', formats: ['f32'], optional: true },
  },
  outputs: { y: { doc: '[..., N]', formats: ['f32'] } },
  attributes: z.strictObject({ activation: z.enum(['none', 'gelu_tanh', 'silu']).default('none') }),
  infer(_attrs, { x, w, bias, residual }) {
    check(w!.shape.length === 2 && w!.shape[1] === lastDim(x!.shape), 'invalid_shape', () => `matmul: x [${x!.shape}] needs w [N, ${lastDim(x!.shape)}], got [${w!.shape}]`)
    const shape = [...x!.shape.slice(0, -1), w!.shape[0]!]
    check(!bias || sameShape(bias.shape, [w!.shape[0]!]), 'invalid_shape', () => `matmul: bias must be [${w!.shape[0]}], got [${bias!.shape}]`)
    check(!residual || sameShape(residual.shape, shape), 'invalid_shape', () => `matmul: residual must be [${shape}], got [${residual!.shape}]`)
    return { y: tensorType('f32', ...shape) }
  },
  gradient: { none: 'being written' },
  reference({ inputs, attrs }, { x, w, bias, residual }) {
    const k = lastDim(inputs.x!.shape)
    const n = inputs.w!.shape[0]!
    const y = new Float64Array(rowCount(inputs.x!.shape) * n)
    for (let i = 0; i < y.length; i++) {
      const row = Math.floor(i / n)
      const col = i % n
      let sum = 0
      for (let j = 0; j < k; j++) sum += x![row * k + j]! * w![col * k + j]!
      if (bias) sum += bias[col]!
      if (attrs.activation === 'silu') sum = sum / (1 + Math.exp(-sum))
      y[i] = residual ? sum + residual[i]! : sum
    }
    return { y }
  },
  tolerance({ inputs }, { x, w }) {
    const k = lastDim(inputs.x!.shape)
    const n = inputs.w!.shape[0]!
    const xs = rowNorms(x!, k)
    const ws = rowNorms(w!, k)
    return { y: (i) => (k + 4) * EPS_F32 * xs[Math.floor(i / n)]! * ws[i % n]! + 1e-30 }
  },
  flops: ({ inputs }) => 2 * rowCount(inputs.x!.shape) * lastDim(inputs.x!.shape) * inputs.w!.shape[0]!,
  cases: [{ name: 'one', attrs: { activation: 'none' }, inputs: { x: normal([1, 1]), w: normal([1, 1]) } }],
})
