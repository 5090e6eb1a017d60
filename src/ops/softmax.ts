import { z } from 'zod'
import { check } from '../errors.ts'
import { lastDim, rowCount, sameShape, tensorType } from '../tensor/type.ts'
import { normal, uniform, values } from './cases.ts'
import { defineOp } from './contract.ts'
import { EPS_F32, expError, sumDepth, TINY_F32 } from './tolerance.ts'

/** y = softmax of x over the last dim: f32 [..., C] to f32 [..., C]. */
export const softmax = defineOp<Record<string, never>>({
  name: 'softmax',
  summary: 'y[t,c] = exp(x[t,c] - max_c x[t,:]) / sum_c exp(x[t,c] - max_c x[t,:])',
  inputs: { x: { doc: '[..., C]', formats: ['f32'] } },
  outputs: { y: { doc: '[..., C]', formats: ['f32'] } },
  attributes: z.strictObject({}),
  infer: (_attrs, { x }) => ({ y: tensorType('f32', ...x!.shape) }),
  gradient: {
    x: {
      input: ({ g, outputs, dOutputs }) => g.op('softmax_backward', {}, { dy: dOutputs.y, y: outputs.y }).dx!,
    },
  },
  reference({ inputs }, { x }) {
    const width = lastDim(inputs.x!.shape)
    const y = new Float64Array(x!.length)
    for (let start = 0; start < y.length; start += width) {
      const row = x!.subarray(start, start + width)
      const top = row.reduce((a, b) => Math.max(a, b))
      const e = row.map((v) => Math.exp(v - top))
      const sum = e.reduce((a, b) => a + b)
      for (let c = 0; c < width; c++) y[start + c] = e[c]! / sum
    }
    return { y }
  },
  // Numerator: expError. Denominator: the mean of expError weighted by y, and the chain of additions. Division
  // 2.5 ulp and a rounding. Terms below the smallest normal may be flushed.
  tolerance({ inputs }, { x }, expected) {
    const width = lastDim(inputs.x!.shape)
    const y = expected.y!
    const tops = new Float64Array(y.length / width)
    const sums = new Float64Array(y.length / width)
    for (let r = 0; r < tops.length; r++) {
      tops[r] = x!.subarray(r * width, (r + 1) * width).reduce((a, b) => Math.max(a, b))
      for (let c = r * width; c < (r + 1) * width; c++) sums[r]! += y[c]! * expError(x![c]! - tops[r]!)
      sums[r]! += sumDepth(width) * EPS_F32
    }
    return {
      y: (i) => {
        const r = Math.floor(i / width)
        return y[i]! * (expError(x![i]! - tops[r]!) + sums[r]! + 6 * EPS_F32) + 2 * TINY_F32
      },
    }
  },
  flops: ({ inputs }) => 4 * rowCount(inputs.x!.shape) * lastDim(inputs.x!.shape),
  cases: [
    { name: 'one', attrs: {}, inputs: { x: normal([1, 1]) } },
    { name: 'prime', attrs: {}, inputs: { x: normal([3, 37], 3) } },
    { name: 'w64', attrs: {}, inputs: { x: normal([2, 2, 64], 2) } },
    { name: 'past_tile', attrs: {}, inputs: { x: normal([2, 257], 2) } },
    { name: 'wide', attrs: {}, inputs: { x: normal([2, 4100], 4) } },
    { name: 'large_magnitude', attrs: {}, inputs: { x: normal([3, 100], 1e4) } },
    // Larger than finite differences take: their step grows with |x|, which softmax does not depend on.
    { name: 'offset', attrs: {}, inputs: { x: uniform([2, 252], 9999, 10001) } },
    { name: 'equal', attrs: {}, inputs: { x: values([2, 251], [-3e38]) } },
    {
      name: 'masked',
      attrs: {},
      inputs: { x: values([2, 8], [-3e38, 1, -3e38, 2, 0, -3e38, -3e38, -3e38]) },
    },
  ],
})

/** dx = y * (dy - sum(dy * y)) over the last dim; dy, y, dx f32 [..., C]. */
export const softmax_backward = defineOp<Record<string, never>>({
  name: 'softmax_backward',
  summary: 'dx[t,c] = y[t,c] * (dy[t,c] - sum_c dy[t,c] * y[t,c])',
  inputs: {
    dy: { doc: '[..., C]', formats: ['f32'] },
    y: { doc: '[..., C], from softmax', formats: ['f32'] },
  },
  outputs: { dx: { doc: '[..., C]', formats: ['f32'] } },
  attributes: z.strictObject({}),
  infer(_attrs, { dy, y }) {
    check(
      sameShape(dy!.shape, y!.shape),
      'invalid_shape',
      () => `softmax_backward: dy must be [${y!.shape}] like y, got [${dy!.shape}]`,
    )
    return { dx: tensorType('f32', ...y!.shape) }
  },
  gradient: { none: 'second derivatives are not built' },
  reference({ inputs }, { dy, y }) {
    const width = lastDim(inputs.y!.shape)
    const dx = new Float64Array(y!.length)
    for (let start = 0; start < dx.length; start += width) {
      let sum = 0
      for (let c = start; c < start + width; c++) sum += dy![c]! * y![c]!
      for (let c = start; c < start + width; c++) dx[c] = y![c]! * (dy![c]! - sum)
    }
    return { dx }
  },
  // The sum: a rounding per product and the chain of additions; then a subtraction and a product.
  tolerance({ inputs }, { dy, y }, expected) {
    const width = lastDim(inputs.y!.shape)
    const sums = new Float64Array(y!.length / width)
    for (let i = 0; i < y!.length; i++) sums[Math.floor(i / width)]! += Math.abs(dy![i]! * y![i]!)
    return {
      dx: (i) =>
        Math.abs(y![i]!) * (sumDepth(width) + 1) * EPS_F32 * sums[Math.floor(i / width)]! +
        3 * EPS_F32 * Math.abs(expected.dx![i]!) +
        2 * TINY_F32,
    }
  },
  flops: ({ inputs }) => 4 * rowCount(inputs.y!.shape) * lastDim(inputs.y!.shape),
  cases: [
    { name: 'one', attrs: {}, inputs: { dy: normal([1, 1]), y: values([1, 1], [1]) } },
    { name: 'prime', attrs: {}, inputs: { dy: normal([3, 37]), y: uniform([3, 37], 0, 0.05) } },
    { name: 'past_tile', attrs: {}, inputs: { dy: normal([2, 257]), y: uniform([2, 257], 0, 0.008) } },
    { name: 'wide', attrs: {}, inputs: { dy: normal([2, 1028]), y: uniform([2, 1028], 0, 0.002) } },
    { name: 'one_hot', attrs: {}, inputs: { dy: normal([4, 4], 1e4), y: values([4, 4], [1, 0, 0, 0, 0]) } },
  ],
})
