import { z } from 'zod'
import { check } from '../errors.ts'
import { lastDim, rowCount, sameShape, type TensorType, tensorType } from '../tensor/type.ts'
import { normal } from './cases.ts'
import { defineOp, type Ports, type Tolerance } from './contract.ts'
import { cutOff } from './matmul.ts'
import { columnNorms, dotProduct, EPS_F32, rowNorms, scaleRoundings, storedIn } from './tolerance.ts'

type InputAttributes = {
  /** Format of dx where it is not f32: that of dy, so that gradients between two products stay in 16 bits. */
  output?: 'f16' | 'bf16' | undefined
}

const second = 'second derivatives are not used in training'
const weightOperands = ['f32', 'f16', 'bf16', 'e4m3_128'] as const

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
  gradient: { none: second },
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

type WeightAttributes = {
  /** dy and x are given as their transposed copies, as formats have it whose blocks must lie along the sum. */
  transposed?: boolean | undefined
}

/** Rows of dw, its columns, and terms of a sum. */
function weightSizes(
  { transposed }: WeightAttributes,
  { dy, x }: Ports<TensorType>,
): [number, number, number] {
  return transposed
    ? [dy!.shape[0]!, x!.shape[0]!, lastDim(dy!.shape)]
    : [lastDim(dy!.shape), lastDim(x!.shape), rowCount(dy!.shape)]
}

/** Gradient of matmul (without activation) with respect to w, added to an accumulator in place. */
export const matmul_backward_weight = defineOp<WeightAttributes>({
  name: 'matmul_backward_weight',
  summary: 'dw[n,k] = accumulator[n,k] + sum_t dy[t,n] * x[t,k]; `transposed`: dy[n,t] * x[k,t]',
  inputs: {
    accumulator: { doc: '[N, K], overwritten', formats: ['f32'] },
    dy: { doc: '[..., N]; [N, T] with `transposed`, which e4m3_128 needs', formats: weightOperands },
    x: { doc: '[..., K] or [K, T], the format of dy', formats: weightOperands },
  },
  outputs: { dw: { doc: '[N, K]', formats: ['f32'] } },
  inPlace: { dw: 'accumulator' },
  attributes: z.strictObject({ transposed: z.boolean().optional() }),
  infer(attrs, inputs) {
    const { accumulator, dy, x } = inputs
    check(
      dy!.format === x!.format,
      'unsupported',
      () => `matmul_backward_weight: dy in ${dy!.format} needs x in ${dy!.format}, got ${x!.format}`,
    )
    check(
      !attrs.transposed === (dy!.format !== 'e4m3_128'),
      'unsupported',
      () =>
        `matmul_backward_weight: operands in e4m3_128, and no others, are \`transposed\`, got ${dy!.format}`,
    )
    check(
      attrs.transposed
        ? dy!.shape.length === 2 && x!.shape.length === 2 && dy!.shape[1] === x!.shape[1]
        : sameShape(dy!.shape.slice(0, -1), x!.shape.slice(0, -1)),
      'invalid_shape',
      () =>
        `matmul_backward_weight: dy [${dy!.shape}] and x [${x!.shape}] must have the same ${attrs.transposed ? 'columns' : 'rows'}`,
    )
    const shape = weightSizes(attrs, inputs).slice(0, 2)
    check(
      sameShape(accumulator!.shape, shape),
      'invalid_shape',
      () => `matmul_backward_weight: accumulator must be [${shape}], got [${accumulator!.shape}]`,
    )
    return { dw: tensorType('f32', ...shape) }
  },
  gradient: { none: second },
  reference({ attrs, inputs }, { accumulator, dy, x }) {
    const [width, depth, terms] = weightSizes(attrs, inputs)
    const at = (t: number, i: number, size: number): number =>
      attrs.transposed ? i * terms + t : t * size + i
    const dw = Float64Array.from(accumulator!)
    for (let t = 0; t < terms; t++)
      for (let n = 0; n < width; n++)
        for (let k = 0; k < depth; k++) dw[n * depth + k]! += dy![at(t, n, width)]! * x![at(t, k, depth)]!
    return { dw }
  },
  // In e4m3_128 as for matmul: the scales round, and tensor cores keep sums of a block to fewer bits.
  tolerance({ attrs, inputs }, { accumulator, dy, x }, { dw }) {
    const [width, depth, terms] = weightSizes(attrs, inputs)
    const norms = (v: Float64Array, size: number): Float64Array =>
      attrs.transposed ? rowNorms(v, terms) : columnNorms(v, size)
    const left = norms(dy!, width)
    const right = norms(x!, depth)
    const roundings = 2 * (scaleRoundings[inputs.dy!.format] ?? 0)
    const sum = dotProduct(terms + roundings, (i) => left[Math.floor(i / depth)]! * right[i % depth]!)
    const lost: Tolerance = (i) =>
      attrs.transposed ? cutOff(dy!, x!, terms, Math.floor(i / depth), i % depth) : 0
    return { dw: (i) => sum(i) + lost(i) + EPS_F32 * (Math.abs(accumulator![i]!) + Math.abs(dw![i]!)) }
  },
  flops: ({ attrs, inputs }) => 2 * weightSizes(attrs, inputs).reduce((a, b) => a * b, 1),
  cases: [
    {
      name: 'one',
      attrs: {},
      inputs: { accumulator: normal([1, 1]), dy: normal([1, 1]), x: normal([1, 1]) },
    },
    {
      name: 'prime',
      attrs: {},
      inputs: { accumulator: normal([37, 67]), dy: normal([11, 37]), x: normal([11, 67]) },
    },
    {
      name: 'odd_depth',
      attrs: {},
      inputs: { accumulator: normal([12, 9]), dy: normal([2, 4, 12]), x: normal([2, 4, 9]) },
    },
    {
      name: 'one_row',
      attrs: {},
      inputs: { accumulator: normal([4, 64]), dy: normal([1, 4]), x: normal([1, 64]) },
    },
    {
      name: 'past_tile',
      attrs: {},
      inputs: { accumulator: normal([36, 132]), dy: normal([33, 36]), x: normal([33, 132]) },
    },
    {
      name: 'full_tiles',
      attrs: {},
      inputs: { accumulator: normal([132, 132]), dy: normal([1, 131, 132]), x: normal([1, 131, 132]) },
    },
    {
      name: 'large_magnitude',
      attrs: {},
      inputs: { accumulator: normal([16, 32], 1e10), dy: normal([7, 16], 1e6), x: normal([7, 32], 1e6) },
    },
    // Both operands in 16 bits
    {
      name: 'both_bf16_one_row',
      attrs: {},
      inputs: {
        accumulator: normal([16, 24]),
        dy: normal([1, 16], 1, 'bf16'),
        x: normal([1, 24], 1, 'bf16'),
      },
    },
    {
      name: 'both_f16_odd_depth',
      attrs: {},
      inputs: { accumulator: normal([12, 67]), dy: normal([9, 12], 1, 'f16'), x: normal([9, 67], 1, 'f16') },
    },
    {
      name: 'both_bf16_odd_width',
      attrs: {},
      inputs: {
        accumulator: normal([37, 40]),
        dy: normal([2, 8, 37], 1, 'bf16'),
        x: normal([2, 8, 40], 1, 'bf16'),
      },
    },
    {
      name: 'both_bf16_past_edges',
      attrs: {},
      inputs: {
        accumulator: normal([136, 24]),
        dy: normal([2, 37, 136], 1, 'bf16'),
        x: normal([2, 37, 24], 1, 'bf16'),
      },
    },
    {
      name: 'both_f16_past_edges',
      attrs: {},
      inputs: {
        accumulator: normal([8, 264]),
        dy: normal([67, 8], 1, 'f16'),
        x: normal([67, 264], 1, 'f16'),
      },
    },
    {
      name: 'both_bf16_many_rows',
      attrs: {},
      inputs: {
        accumulator: normal([8, 24]),
        dy: normal([1304, 8], 1, 'bf16'),
        x: normal([1304, 24], 1, 'bf16'),
      },
    },
    {
      name: 'both_f16_many_rows',
      attrs: {},
      inputs: {
        accumulator: normal([8, 16]),
        dy: normal([1100, 8], 1, 'f16'),
        x: normal([1100, 16], 1, 'f16'),
      },
    },
    {
      name: 'e4m3_128_transposed',
      attrs: { transposed: true },
      inputs: {
        accumulator: normal([131, 36], 10),
        dy: normal([131, 256], 0.1, 'e4m3_128'),
        x: normal([36, 256], 1, 'e4m3_128'),
      },
    },
    {
      name: 'e4m3_128_transposed_odd',
      attrs: { transposed: true },
      inputs: {
        accumulator: normal([5, 33]),
        dy: normal([5, 128], 1e-3, 'e4m3_128'),
        x: normal([33, 128], 1, 'e4m3_128'),
      },
    },
  ],
})
