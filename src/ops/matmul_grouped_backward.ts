import { z } from 'zod'
import { check } from '../errors.ts'
import type { FormatName } from '../tensor/format.ts'
import { sameShape, tensorType } from '../tensor/type.ts'
import { firstRows, normal, values } from './cases.ts'
import { defineOp, type Tolerance } from './contract.ts'
import { checkOffsets, expertOfRows } from './matmul_grouped.ts'
import { columnNorms, dotProduct, EPS_F32, rowNorms, storedIn } from './tolerance.ts'

type InputAttributes = {
  /** Format of dx where it is not f32: that of dy. */
  output?: 'f16' | 'bf16' | undefined
}

const floats: readonly FormatName[] = ['f32', 'f16', 'bf16']
const second = 'second derivatives are not used in training'

/** Gradient of matmul_grouped with respect to x. */
export const matmul_grouped_backward_input = defineOp<InputAttributes>({
  name: 'matmul_grouped_backward_input',
  summary: 'dx[t,k] = sum_n dy[t,n] * w[e,n,k] for offsets[e] <= t < offsets[e+1], 0 for rows of no expert',
  inputs: {
    dy: { doc: '[T, N], rows sorted by expert', formats: floats },
    offsets: { doc: '[E + 1], where the rows of each expert begin, and the last ones end', formats: ['u32'] },
    w: { doc: '[E, N, K], the format of dy; K a multiple of 8', formats: floats },
  },
  outputs: { dx: { doc: '[T, K], f32 or the format of dy', formats: floats } },
  attributes: z.strictObject({ output: z.enum(['f16', 'bf16']).optional() }),
  infer({ output }, { dy, offsets, w }) {
    const [rows, width] = dy!.shape
    const [experts, , depth] = w!.shape
    check(
      dy!.shape.length === 2 && w!.shape.length === 3 && w!.shape[1] === width && depth! % 8 === 0,
      'invalid_shape',
      () =>
        `matmul_grouped_backward_input: dy [T, N] needs w [E, N, K], K a multiple of 8, got dy [${dy!.shape}], w [${w!.shape}]`,
    )
    checkOffsets('matmul_grouped_backward_input', offsets!, experts!)
    check(
      w!.format === dy!.format,
      'unsupported',
      () => `matmul_grouped_backward_input: dy in ${dy!.format} needs w in ${dy!.format}, got ${w!.format}`,
    )
    check(
      !output || output === dy!.format,
      'unsupported',
      () => `matmul_grouped_backward_input: dx can be f32 or the format of dy, ${dy!.format}, not ${output}`,
    )
    return { dx: tensorType(output ?? 'f32', rows!, depth!) }
  },
  gradient: { none: second },
  reference({ inputs }, { dy, offsets, w }) {
    const [rows, width] = inputs.dy!.shape as readonly [number, number]
    const depth = inputs.w!.shape[2]!
    const dx = new Float64Array(rows * depth)
    for (const [row, expert] of expertOfRows(offsets!, rows).entries())
      for (let n = 0; expert >= 0 && n < width; n++)
        for (let k = 0; k < depth; k++)
          dx[row * depth + k]! += dy![row * width + n]! * w![(expert * width + n) * depth + k]!
    return { dx }
  },
  // Products of two 16-bit numbers are exact in f32, so the bound holds for them too.
  tolerance({ attrs, inputs }, { dy, offsets, w }, { dx }) {
    const [rows, width] = inputs.dy!.shape as readonly [number, number]
    const depth = inputs.w!.shape[2]!
    const left = rowNorms(dy!, width)
    const right = columnNorms(w!, depth, inputs.w!.shape[0]!, (row) => Math.floor(row / width))
    const experts = expertOfRows(offsets!, rows)
    const sum = dotProduct(width, (i) => {
      const row = Math.floor(i / depth)
      return left[row]! * right[experts[row]! * depth + (i % depth)]!
    })
    const inF32: Tolerance = (i) => (experts[Math.floor(i / depth)]! < 0 ? 0 : sum(i))
    return { dx: storedIn(attrs.output ?? 'f32', inF32, dx!) }
  },
  // As if every row had an expert.
  flops: ({ inputs }) => 2 * inputs.dy!.shape[0]! * inputs.w!.shape[1]! * inputs.w!.shape[2]!,
  cases: [
    {
      name: 'one',
      attrs: {},
      inputs: { dy: normal([1, 1]), offsets: values([2], [0, 1], 'u32'), w: normal([1, 1, 8]) },
    },
    {
      name: 'f32_empty_experts',
      attrs: {},
      inputs: {
        dy: normal([70, 37]),
        offsets: values([6], [0, 0, 3, 67, 67, 70], 'u32'),
        w: normal([5, 37, 40]),
      },
    },
    {
      name: 'f16',
      attrs: { output: 'f16' },
      inputs: {
        dy: firstRows([40, 64], 39, 1, 'f16'),
        offsets: values([5], [0, 11, 11, 30, 39], 'u32'),
        w: normal([4, 64, 24], 0.1, 'f16'),
      },
    },
    {
      name: 'bf16',
      attrs: { output: 'bf16' },
      inputs: {
        dy: firstRows([150, 128], 149, 1, 'bf16'),
        offsets: values([4], [3, 134, 135, 149], 'u32'),
        w: normal([3, 128, 40], 0.1, 'bf16'),
      },
    },
    {
      name: 'bf16_offsets_out_of_order',
      attrs: {},
      inputs: {
        dy: normal([20, 64], 1, 'bf16'),
        offsets: values([6], [1, 7, 3, 9, 4294967295, 0], 'u32'),
        w: normal([5, 64, 136], 0.1, 'bf16'),
      },
    },
    {
      name: 'bf16_odd_width',
      attrs: {},
      inputs: {
        dy: normal([9, 21], 1, 'bf16'),
        offsets: values([3], [0, 4, 9], 'u32'),
        w: normal([2, 21, 16], 1, 'bf16'),
      },
    },
  ],
})

/** Gradient of matmul_grouped with respect to w, added to an accumulator in place. */
export const matmul_grouped_backward_weight = defineOp<Record<string, never>>({
  name: 'matmul_grouped_backward_weight',
  summary: 'dw[e,n,k] = accumulator[e,n,k] + sum of dy[t,n] * x[t,k] over offsets[e] <= t < offsets[e+1]',
  inputs: {
    accumulator: { doc: '[E, N, K], overwritten; K a multiple of 8', formats: ['f32'] },
    dy: { doc: '[T, N], rows sorted by expert', formats: floats },
    x: { doc: '[T, K], the format of dy', formats: floats },
    offsets: { doc: '[E + 1], where the rows of each expert begin, and the last ones end', formats: ['u32'] },
  },
  outputs: { dw: { doc: '[E, N, K]', formats: ['f32'] } },
  inPlace: { dw: 'accumulator' },
  attributes: z.strictObject({}),
  infer(_attrs, { accumulator, dy, x, offsets }) {
    const [[rows, width], [xRows, depth]] = [dy!.shape, x!.shape]
    const [experts] = accumulator!.shape
    check(
      dy!.format === x!.format,
      'unsupported',
      () => `matmul_grouped_backward_weight: dy in ${dy!.format} needs x in ${dy!.format}, got ${x!.format}`,
    )
    check(
      dy!.shape.length === 2 && x!.shape.length === 2 && rows === xRows && depth! % 8 === 0,
      'invalid_shape',
      () =>
        `matmul_grouped_backward_weight: dy [T, N] needs x [T, K], K a multiple of 8, got dy [${dy!.shape}], x [${x!.shape}]`,
    )
    check(
      sameShape(accumulator!.shape, [experts!, width!, depth!]),
      'invalid_shape',
      () =>
        `matmul_grouped_backward_weight: accumulator must be [E, ${width}, ${depth}], got [${accumulator!.shape}]`,
    )
    checkOffsets('matmul_grouped_backward_weight', offsets!, experts!)
    return { dw: tensorType('f32', experts!, width!, depth!) }
  },
  gradient: { none: second },
  reference({ inputs }, { accumulator, dy, x, offsets }) {
    const [rows, width] = inputs.dy!.shape as readonly [number, number]
    const depth = inputs.x!.shape[1]!
    const dw = Float64Array.from(accumulator!)
    for (const [row, expert] of expertOfRows(offsets!, rows).entries())
      for (let n = 0; expert >= 0 && n < width; n++)
        for (let k = 0; k < depth; k++)
          dw[(expert * width + n) * depth + k]! += dy![row * width + n]! * x![row * depth + k]!
    return { dw }
  },
  // A sum of an expert's rows is as good as one of all would be at most; without rows the accumulator stays as it is.
  tolerance({ inputs }, { accumulator, dy, x, offsets }, { dw }) {
    const [rows, width] = inputs.dy!.shape as readonly [number, number]
    const [count, , depth] = inputs.accumulator!.shape as readonly [number, number, number]
    const experts = expertOfRows(offsets!, rows)
    const expertOf = (row: number): number => experts[row]!
    const left = columnNorms(dy!, width, count, expertOf)
    const right = columnNorms(x!, depth, count, expertOf)
    const terms = new Uint32Array(count)
    for (const expert of experts) if (expert >= 0) terms[expert]!++
    return {
      dw: (i) => {
        const row = Math.floor(i / depth)
        const expert = Math.floor(row / width)
        if (terms[expert] === 0) return 0
        const sum = dotProduct(terms[expert]!, () => left[row]! * right[expert * depth + (i % depth)]!)
        return sum(i) + EPS_F32 * (Math.abs(accumulator![i]!) + Math.abs(dw![i]!))
      },
    }
  },
  // As if every row had an expert.
  flops: ({ inputs }) => 2 * inputs.dy!.shape[0]! * inputs.dy!.shape[1]! * inputs.x!.shape[1]!,
  cases: [
    {
      name: 'one',
      attrs: {},
      inputs: {
        accumulator: normal([1, 1, 8]),
        dy: normal([1, 1]),
        x: normal([1, 8]),
        offsets: values([2], [0, 1], 'u32'),
      },
    },
    {
      name: 'f32_empty_experts',
      attrs: {},
      inputs: {
        accumulator: normal([5, 37, 40]),
        dy: normal([70, 37]),
        x: normal([70, 40]),
        offsets: values([6], [0, 0, 3, 67, 67, 70], 'u32'),
      },
    },
    {
      name: 'f16',
      attrs: {},
      inputs: {
        accumulator: normal([4, 16, 24]),
        dy: firstRows([90, 16], 87, 1, 'f16'),
        x: firstRows([90, 24], 87, 1, 'f16'),
        offsets: values([5], [0, 11, 11, 76, 87], 'u32'),
      },
    },
    {
      name: 'bf16',
      attrs: {},
      inputs: {
        accumulator: normal([4, 144, 24]),
        dy: firstRows([150, 144], 148, 1, 'bf16'),
        x: firstRows([150, 24], 148, 1, 'bf16'),
        offsets: values([5], [3, 67, 68, 147, 148], 'u32'),
      },
    },
    {
      name: 'bf16_offsets_out_of_order',
      attrs: {},
      inputs: {
        accumulator: normal([5, 16, 136]),
        dy: normal([20, 16], 1, 'bf16'),
        x: normal([20, 136], 1, 'bf16'),
        offsets: values([6], [1, 7, 3, 9, 4294967295, 0], 'u32'),
      },
    },
    {
      name: 'bf16_odd_width',
      attrs: {},
      inputs: {
        accumulator: normal([2, 21, 16]),
        dy: normal([9, 21], 1, 'bf16'),
        x: normal([9, 16], 1, 'bf16'),
        offsets: values([3], [0, 4, 9], 'u32'),
      },
    },
  ],
})
