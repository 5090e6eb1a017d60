import { z } from 'zod'
import { check } from '../errors.ts'
import { formatOf } from '../tensor/format.ts'
import { type TensorType, tensorType } from '../tensor/type.ts'
import { normal, values } from './cases.ts'
import { defineOp, type GradientContext, type Tolerance } from './contract.ts'
import { cutOff } from './matmul.ts'
import { EPS_F32, rowNorms, scaleRoundings, storedIn, TINY_F32 } from './tolerance.ts'

type GroupedAttributes = {
  /** Format of y where it is not f32: that of x; either where x is in blocks. */
  output?: 'f16' | 'bf16' | undefined
}

/**
 * The expert of every row, -1 where it has none. An offset below one before it counts as that one, and one past the last
 * row as its end, so that ranges never overlap.
 */
export function expertOfRows(offsets: Float64Array, rows: number): Int32Array {
  const experts = new Int32Array(rows).fill(-1)
  let end = Math.min(offsets[0]!, rows)
  for (let e = 0; e + 1 < offsets.length; e++) {
    const first = end
    end = Math.max(end, Math.min(offsets[e + 1]!, rows))
    experts.fill(e, first, end)
  }
  return experts
}

/** Offsets must be those of as many experts as there are matrices. */
export function checkOffsets(op: string, offsets: TensorType, experts: number): void {
  check(
    offsets.shape.length === 1 && offsets.shape[0] === experts + 1,
    'invalid_shape',
    () => `${op}: offsets must be [${experts + 1}] for ${experts} experts, got [${offsets.shape}]`,
  )
}

/** Gradients are taken of the graph before a recipe rounds its operands. */
function inF32({ inputs }: GradientContext<GroupedAttributes>): void {
  const { format } = inputs.x!.type
  check(
    format === 'f32',
    'unsupported',
    () => `matmul_grouped: x in ${format} has no gradient; differentiate the graph with x in f32`,
  )
}

/**
 * A product with another matrix for each group of rows: experts of a mixture, rows sorted by expert. How many rows an
 * expert has is known to the device alone.
 */
export const matmul_grouped = defineOp<GroupedAttributes>({
  name: 'matmul_grouped',
  summary: 'y[t,n] = sum_k x[t,k] * w[e,n,k] for offsets[e] <= t < offsets[e+1], 0 for rows of no expert',
  inputs: {
    x: {
      doc: '[T, K], rows sorted by expert; K a multiple of 8',
      formats: ['f32', 'f16', 'bf16', 'e4m3_128'],
    },
    offsets: { doc: '[E + 1], where the rows of each expert begin, and the last ones end', formats: ['u32'] },
    w: {
      doc: '[E, N, K], the format of x; f16 or bf16 too where that is f32',
      formats: ['f32', 'f16', 'bf16', 'e4m3_128'],
    },
  },
  outputs: { y: { doc: '[T, N], f32 or the attribute `output`', formats: ['f32', 'f16', 'bf16'] } },
  attributes: z.strictObject({ output: z.enum(['f16', 'bf16']).optional() }),
  infer({ output }, { x, offsets, w }) {
    const [rows, depth] = x!.shape
    check(
      x!.shape.length === 2 && w!.shape.length === 3 && w!.shape[2] === depth && depth! % 8 === 0,
      'invalid_shape',
      () =>
        `matmul_grouped: x [T, K] needs w [E, N, K], K a multiple of 8, got x [${x!.shape}], w [${w!.shape}]`,
    )
    const [experts, columns] = w!.shape
    checkOffsets('matmul_grouped', offsets!, experts!)
    const ofF32 = ['f32', 'f16', 'bf16']
    check(
      w!.format === x!.format || (x!.format === 'f32' && ofF32.includes(w!.format)),
      'unsupported',
      () =>
        `matmul_grouped: x in ${x!.format} needs w in ${x!.format === 'f32' ? ofF32.join(', ') : x!.format}, got ${w!.format}`,
    )
    check(
      !output || output === x!.format || formatOf(x!.format).blockSize > 1,
      'unsupported',
      () => `matmul_grouped: y can be f32 or the format of x, ${x!.format}, not ${output}`,
    )
    check(
      !output || columns! % 2 === 0,
      'invalid_shape',
      () => `matmul_grouped: y in ${output} needs an even number of columns, got ${columns}`,
    )
    return { y: tensorType(output ?? 'f32', rows!, columns!) }
  },
  gradient: {
    x: {
      input: (context) => {
        inF32(context)
        const { g, inputs, dOutputs } = context
        const operands = { dy: dOutputs.y, offsets: inputs.offsets, w: inputs.w }
        return g.op('matmul_grouped_backward_input', {}, operands).dx!
      },
    },
    w: {
      weight: (context, accumulator) => {
        inF32(context)
        const { g, inputs, dOutputs } = context
        const operands = { accumulator, dy: dOutputs.y, x: inputs.x, offsets: inputs.offsets }
        return g.op('matmul_grouped_backward_weight', {}, operands).dw!
      },
    },
  },
  reference({ inputs }, { x, offsets, w }) {
    const [rows, depth] = inputs.x!.shape as [number, number]
    const columns = inputs.w!.shape[1]!
    const y = new Float64Array(rows * columns)
    for (const [row, expert] of expertOfRows(offsets!, rows).entries())
      for (let n = 0; expert >= 0 && n < columns; n++)
        for (let k = 0; k < depth; k++)
          y[row * columns + n]! += x![row * depth + k]! * w![(expert * columns + n) * depth + k]!
    return { y }
  },
  // As matmul's: K products, exact in f32 of operands of 16 bits and of quants, whose scales round as often as numbers'
  // would, and their sum, with what tensor cores lose of e4m3.
  tolerance({ inputs, attrs }, { x, offsets, w }, { y }) {
    const [rows, depth] = inputs.x!.shape as [number, number]
    const columns = inputs.w!.shape[1]!
    const [xs, ws] = [rowNorms(x!, depth), rowNorms(w!, depth)]
    const experts = expertOfRows(offsets!, rows)
    const roundings = 2 * (scaleRoundings[inputs.x!.format] ?? 0)
    const sum: Tolerance = (i) => {
      const row = Math.floor(i / columns)
      const expert = experts[row]!
      if (expert < 0) return 0
      const wRow = expert * columns + (i % columns)
      const lost = inputs.x!.format === 'e4m3_128' ? cutOff(x!, w!, depth, row, wRow) : 0
      return (depth + 3 + roundings) * EPS_F32 * xs[row]! * ws[wRow]! + TINY_F32 * depth + lost
    }
    return { y: storedIn(attrs.output ?? 'f32', sum, y!) }
  },
  // As if every row had an expert.
  flops: ({ inputs }) => 2 * inputs.x!.shape[0]! * inputs.w!.shape[1]! * inputs.w!.shape[2]!,
  cases: [
    {
      name: 'one',
      attrs: {},
      inputs: { x: normal([1, 8]), offsets: values([2], [0, 1], 'u32'), w: normal([1, 1, 8]) },
    },
    {
      name: 'f32_empty_experts',
      attrs: {},
      inputs: {
        x: normal([70, 40]),
        offsets: values([6], [0, 0, 3, 67, 67, 70], 'u32'),
        w: normal([5, 37, 40]),
      },
    },
    {
      name: 'f32_x_f16_w',
      attrs: {},
      inputs: {
        x: normal([9, 24]),
        offsets: values([4], [0, 2, 5, 9], 'u32'),
        w: normal([3, 21, 24], 1, 'f16'),
      },
    },
    {
      name: 'f32_x_bf16_w',
      attrs: {},
      inputs: {
        x: normal([5, 16]),
        offsets: values([3], [0, 4, 5], 'u32'),
        w: normal([2, 66, 16], 1, 'bf16'),
      },
    },
    {
      name: 'rows_of_no_expert',
      attrs: {},
      inputs: { x: normal([12, 8]), offsets: values([3], [2, 5, 9], 'u32'), w: normal([2, 10, 8]) },
    },
    {
      name: 'offsets_out_of_order',
      attrs: {},
      inputs: {
        x: normal([20, 8], 1, 'bf16'),
        offsets: values([6], [1, 7, 3, 9, 4294967295, 0], 'u32'),
        w: normal([5, 18, 8], 1, 'bf16'),
      },
    },
    {
      name: 'bf16',
      attrs: { output: 'bf16' },
      inputs: {
        x: normal([150, 136], 1, 'bf16'),
        offsets: values([4], [0, 130, 131, 150], 'u32'),
        w: normal([3, 70, 136], 0.1, 'bf16'),
      },
    },
    {
      name: 'f16',
      attrs: { output: 'f16' },
      inputs: {
        x: normal([40, 72], 1, 'f16'),
        offsets: values([5], [0, 11, 11, 30, 40], 'u32'),
        w: normal([4, 34, 72], 0.1, 'f16'),
      },
    },
    {
      name: 'bf16_wide',
      attrs: {},
      inputs: {
        x: normal([6, 64], 1, 'bf16'),
        offsets: values([3], [0, 1, 6], 'u32'),
        w: normal([2, 261, 64], 0.1, 'bf16'),
      },
    },
    // Rows of y of whole 16 bytes
    {
      name: 'bf16_past_tile',
      attrs: { output: 'bf16' },
      inputs: {
        x: normal([140, 72], 1, 'bf16'),
        offsets: values([4], [0, 130, 131, 140], 'u32'),
        w: normal([3, 72, 72], 0.1, 'bf16'),
      },
    },
    {
      name: 'f16_past_box',
      attrs: { output: 'f16' },
      inputs: {
        x: normal([40, 24], 1, 'f16'),
        offsets: values([6], [2, 11, 9, 30, 4294967295, 0], 'u32'),
        w: normal([5, 40, 24], 0.1, 'f16'),
      },
    },
    {
      name: 'bf16_two_tiles',
      attrs: {},
      inputs: {
        x: normal([18, 64], 1, 'bf16'),
        offsets: values([3], [0, 1, 18], 'u32'),
        w: normal([2, 264, 64], 0.1, 'bf16'),
      },
    },
    // Both operands in blocks
    {
      name: 'e4m3_128',
      attrs: { output: 'bf16' },
      inputs: {
        x: normal([141, 256], 1, 'e4m3_128'),
        offsets: values([5], [1, 130, 130, 131, 140], 'u32'),
        w: normal([4, 40, 256], 0.1, 'e4m3_128'),
      },
    },
    {
      name: 'e4m3_128_wide',
      attrs: {},
      inputs: {
        x: normal([5, 128], 1, 'e4m3_128'),
        offsets: values([3], [0, 2, 5], 'u32'),
        w: normal([2, 136, 128], 0.1, 'e4m3_128'),
      },
    },
  ],
})
