import { z } from 'zod'
import { check } from '../errors.ts'
import { lastDim, rowCount, tensorType } from '../tensor/type.ts'
import { normal } from './cases.ts'
import { defineOp } from './contract.ts'
import { columnNorms, dotProduct, rowNorms, storedIn } from './tolerance.ts'

type InputAttributes = {
  /** Format of dx where it is not f32: that of dy, so that gradients between two products stay in 16 bits. */
  output?: 'f16' | 'bf16' | undefined
}

/** Gradient of matmul (without activation) with respect to x. */
export const matmul_backward_input = defineOp<InputAttributes>({
  name: 'matmul_backward_input',
  summary: 'dx[t,k] = sum_n dy[t,n] * w[n,k]',
  inputs: {
    dy: { doc: '[..., N]', formats: ['f32', 'f16', 'bf16'] },
    w: { doc: '[N, K], the format of dy where that has 16 bits', formats: ['f32', 'f16', 'bf16'] },
  },
  outputs: { dx: { doc: '[..., K], f32 or the format of dy', formats: ['f32', 'f16', 'bf16'] } },
  attributes: z.strictObject({ output: z.enum(['f16', 'bf16']).optional() }),
  infer({ output }, { dy, w }) {
    const width = lastDim(dy!.shape)
    check(
      dy!.format === 'f32' || w!.format === dy!.format,
      'unsupported',
      () => `matmul_backward_input: dy in ${dy!.format} needs w in ${dy!.format}, got ${w!.format}`,
    )
    check(
      !output || output === dy!.format,
      'unsupported',
      () => `matmul_backward_input: dx can be f32 or the format of dy, ${dy!.format}, not ${output}`,
    )
    check(
      w!.shape.length === 2 && w!.shape[0] === width,
      'invalid_shape',
      () => `matmul_backward_input: dy [${dy!.shape}] needs w [${width}, K], got [${w!.shape}]`,
    )
    const depth = w!.shape[1]!
    check(
      !output || depth % 2 === 0,
      'invalid_shape',
      () => `matmul_backward_input: dx in ${output} needs an even number of columns, got ${depth}`,
    )
    return { dx: tensorType(output ?? 'f32', ...dy!.shape.slice(0, -1), depth) }
  },
  gradient: { none: 'second derivatives are not used in training' },
  reference({ inputs }, { dy, w }) {
    const [width, depth] = inputs.w!.shape as readonly [number, number]
    const dx = new Float64Array(rowCount(inputs.dy!.shape) * depth)
    for (let i = 0; i < dx.length; i++) {
      const row = Math.floor(i / depth)
      let sum = 0
      for (let n = 0; n < width; n++) sum += dy![row * width + n]! * w![n * depth + (i % depth)]!
      dx[i] = sum
    }
    return { dx }
  },
  // Products of two 16-bit numbers are exact in f32, so the bound holds for them too.
  tolerance({ attrs, inputs }, { dy, w }, { dx }) {
    const [width, depth] = inputs.w!.shape as readonly [number, number]
    const rows = rowNorms(dy!, width)
    const columns = columnNorms(w!, depth)
    const inF32 = dotProduct(width, (i) => rows[Math.floor(i / depth)]! * columns[i % depth]!)
    return { dx: storedIn(attrs.output ?? 'f32', inF32, dx!) }
  },
  flops: ({ inputs }) => 2 * rowCount(inputs.dy!.shape) * inputs.w!.shape[0]! * inputs.w!.shape[1]!,
  cases: [
    { name: 'one', attrs: {}, inputs: { dy: normal([1, 1]), w: normal([1, 1]) } },
    { name: 'prime', attrs: {}, inputs: { dy: normal([5, 37]), w: normal([37, 67]) } },
    { name: 'odd_depth', attrs: {}, inputs: { dy: normal([9, 24]), w: normal([24, 35], 1, 'bf16') } },
    { name: 'odd_width', attrs: {}, inputs: { dy: normal([6, 25]), w: normal([25, 36], 1, 'f16') } },
    { name: 'one_row', attrs: {}, inputs: { dy: normal([1, 32]), w: normal([32, 64]) } },
    { name: 'past_tile', attrs: {}, inputs: { dy: normal([17, 36]), w: normal([36, 132]) } },
    { name: 'full_tiles', attrs: {}, inputs: { dy: normal([2, 33, 128]), w: normal([128, 260], 1, 'bf16') } },
    { name: 'f16', attrs: {}, inputs: { dy: normal([33, 64]), w: normal([64, 40], 1, 'f16') } },
    { name: 'f16_subnormal', attrs: {}, inputs: { dy: normal([3, 64]), w: normal([64, 16], 2e-6, 'f16') } },
    { name: 'bf16', attrs: {}, inputs: { dy: normal([20, 64]), w: normal([64, 96], 1, 'bf16') } },
    { name: 'large_magnitude', attrs: {}, inputs: { dy: normal([4, 64], 1e6), w: normal([64, 32], 1e6) } },
    // Both operands in 16 bits
    {
      name: 'both_bf16_one_row',
      attrs: { output: 'bf16' },
      inputs: { dy: normal([1, 24], 1, 'bf16'), w: normal([24, 40], 1, 'bf16') },
    },
    {
      name: 'both_f16_odd_width',
      attrs: { output: 'f16' },
      inputs: { dy: normal([7, 37], 1, 'f16'), w: normal([37, 66], 0.2, 'f16') },
    },
    {
      name: 'both_bf16_odd_depth',
      attrs: {},
      inputs: { dy: normal([9, 40], 1, 'bf16'), w: normal([40, 35], 1, 'bf16') },
    },
    {
      name: 'both_bf16_past_edges',
      attrs: { output: 'bf16' },
      inputs: { dy: normal([131, 72], 1, 'bf16'), w: normal([72, 40], 0.1, 'bf16') },
    },
    {
      name: 'both_f16_past_edges',
      attrs: {},
      inputs: { dy: normal([2, 5, 72], 1, 'f16'), w: normal([72, 264], 0.1, 'f16') },
    },
    {
      name: 'both_bf16_deep',
      attrs: { output: 'bf16' },
      inputs: { dy: normal([5, 1304], 1, 'bf16'), w: normal([1304, 16], 1, 'bf16') },
    },
    {
      name: 'both_f16_subnormal',
      attrs: {},
      inputs: { dy: normal([6, 64], 1, 'f16'), w: normal([64, 16], 2e-6, 'f16') },
    },
  ],
})
