import { z } from 'zod'
import { check } from '../errors.ts'
import { lastDim, rowCount, sameShape, type TensorType, tensorType } from '../tensor/type.ts'
import { normal } from './cases.ts'
import { defineOp, type Ports, type Tolerance } from './contract.ts'
import { cutOff } from './matmul.ts'
import { columnNorms, dotProduct, EPS_F32, rowNorms, scaleRoundings } from './tolerance.ts'

const operands = ['f32', 'f16', 'bf16', 'e4m3_128'] as const

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
    dy: { doc: '[..., N]; [N, T] with `transposed`, which e4m3_128 needs', formats: operands },
    x: { doc: '[..., K] or [K, T], the format of dy', formats: operands },
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
  gradient: { none: 'second derivatives are not used in training' },
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
