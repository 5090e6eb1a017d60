import { z } from 'zod'
import { check } from '../errors.ts'
import type { FormatName } from '../tensor/format.ts'
import { byteSize, elementCount } from '../tensor/type.ts'
import { checkShape } from './attention_math.ts'
import { integers, normal, values } from './cases.ts'
import { generateConstant } from './constants.ts'
import { type Case, defineOp } from './contract.ts'
import { EPS_F32, storedIn, TINY_F32 } from './tolerance.ts'

const formats = ['f32', 'f16', 'bf16'] as const

export interface RopeAttributes {
  readonly head_dim: number
  readonly rotated_heads: number
  readonly layout: 'half' | 'interleaved'
  readonly inverse: boolean
}

interface RopeShape {
  readonly rows: number
  readonly slots: number
  readonly table: readonly number[]
}

/** A case with the table of base 10000, or random numbers as the table. */
function one(
  name: string,
  { rows, slots, table }: RopeShape,
  over: Partial<RopeAttributes>,
  { random = false, format = 'f32' }: { random?: boolean; format?: FormatName } = {},
): Case<RopeAttributes> {
  const attrs: RopeAttributes = { head_dim: 8, rotated_heads: 1, layout: 'half', inverse: false, ...over }
  const [positions, rotary_dim] = table as [number, number]
  const made = random
    ? null
    : generateConstant('rope_table', { positions, rotary_dim, base: 10000, scaling: null })
  return {
    name,
    attrs,
    inputs: {
      x: normal([rows, slots * attrs.head_dim], 1, format),
      positions: integers([rows], 0, positions),
      table: made ? values(table, [...made.values]) : normal(table),
    },
  }
}

/** Rotary position embedding by a table of cosines and sines, so that every backend rotates by the same numbers. */
export const rope = defineOp<RopeAttributes>({
  name: 'rope',
  summary:
    'each pair (a, b) of a rotated head becomes (a cos - b sin, b cos + a sin) by the table row of its position',
  source: 'Su et al., RoFormer, 2021; layout half is that of GPT-NeoX, interleaved that of the paper',
  inputs: {
    x: { doc: '[T, S D]: S heads', formats },
    positions: { doc: '[T]: rows of the table, below P', formats: ['u32'] },
    table: { doc: '[P, R], R even and at most D: R/2 cosines, then R/2 sines', formats: ['f32'] },
  },
  outputs: { y: { doc: '[T, S D], in the format of x', formats } },
  inPlace: { y: 'x' },
  attributes: z.strictObject({
    head_dim: z.int().min(2).max(256),
    rotated_heads: z.int().min(1),
    layout: z.enum(['half', 'interleaved']),
    inverse: z.boolean().default(false),
  }) as z.ZodType<RopeAttributes>,
  infer({ head_dim, rotated_heads }, { x, positions, table }) {
    const [rows, width] = x!.shape as [number, number]
    check(
      x!.shape.length === 2 && width % head_dim === 0 && width / head_dim >= rotated_heads,
      'invalid_shape',
      () =>
        `rope: x must be [T, S * ${head_dim}] with S at least rotated_heads = ${rotated_heads}, got [${x!.shape}]`,
    )
    checkShape('rope', 'positions', positions!.shape, [rows])
    const rotary = table!.shape[1] ?? 0
    check(
      table!.shape.length === 2 && rotary % 2 === 0 && rotary <= head_dim,
      'invalid_shape',
      () =>
        `rope: table must be [P, R] with R even and at most head_dim = ${head_dim}, got [${table!.shape}]`,
    )
    return { y: x! }
  },
  gradient: {
    x: {
      input: ({ g, attrs, inputs, dOutputs }) =>
        g.op(
          'rope',
          { ...attrs, inverse: !attrs.inverse },
          { x: dOutputs.y, positions: inputs.positions, table: inputs.table },
        ).y!,
    },
  },
  reference({ attrs, inputs }, { x, positions, table }) {
    const [rows, width] = inputs.x!.shape as [number, number]
    const half = inputs.table!.shape[1]! / 2
    const y = x!.slice()
    for (let t = 0; t < rows; t++)
      for (let h = 0; h < attrs.rotated_heads; h++)
        for (let i = 0; i < half; i++) {
          const [a, b] = pair(attrs, half, t * width + h * attrs.head_dim, i)
          const cos = table![positions![t]! * 2 * half + i]!
          const sin = table![positions![t]! * 2 * half + half + i]! * (attrs.inverse ? -1 : 1)
          y[a] = x![a]! * cos - x![b]! * sin
          y[b] = x![b]! * cos + x![a]! * sin
        }
    return { y }
  },
  // Two products and a sum: (2 + 2) roundings of |a cos| + |b sin| as in any dot product of two terms.
  // Heads that are not rotated stay as they are.
  tolerance({ attrs, inputs }, { x, positions, table }, { y }) {
    const [rows, width] = inputs.x!.shape as [number, number]
    const half = inputs.table!.shape[1]! / 2
    const budget = new Float64Array(x!.length)
    for (let t = 0; t < rows; t++)
      for (let h = 0; h < attrs.rotated_heads; h++)
        for (let i = 0; i < half; i++) {
          const [a, b] = pair(attrs, half, t * width + h * attrs.head_dim, i)
          const cos = Math.abs(table![positions![t]! * 2 * half + i]!)
          const sin = Math.abs(table![positions![t]! * 2 * half + half + i]!)
          const [xa, xb] = [Math.abs(x![a]!), Math.abs(x![b]!)]
          budget[a] = 4 * EPS_F32 * (xa * cos + xb * sin) + 4 * TINY_F32
          budget[b] = 4 * EPS_F32 * (xb * cos + xa * sin) + 4 * TINY_F32
        }
    const stored = storedIn(inputs.x!.format, (i) => budget[i]!, y!)
    return { y: (i) => (budget[i] === 0 ? 0 : stored(i)) }
  },
  flops: ({ attrs, inputs }) => 3 * inputs.x!.shape[0]! * attrs.rotated_heads * inputs.table!.shape[1]!,
  work({ attrs, inputs }) {
    const [rows] = inputs.x!.shape as [number, number]
    const [positions, width] = inputs.table!.shape as [number, number]
    return {
      bytes: {
        x: (byteSize(inputs.x!) / elementCount(inputs.x!.shape)) * rows * attrs.rotated_heads * width,
        table: 4 * width * Math.min(rows, positions),
      },
    }
  },
  cases: [
    one('one', { rows: 1, slots: 1, table: [1, 2] }, { head_dim: 2 }),
    one('half', { rows: 3, slots: 3, table: [7, 8] }, { rotated_heads: 2 }),
    one('interleaved', { rows: 3, slots: 3, table: [7, 8] }, { rotated_heads: 2, layout: 'interleaved' }),
    one('partial', { rows: 5, slots: 2, table: [11, 6] }, { head_dim: 10 }),
    one(
      'partial_interleaved',
      { rows: 5, slots: 2, table: [11, 6] },
      { head_dim: 10, rotated_heads: 2, layout: 'interleaved' },
    ),
    one('inverse', { rows: 4, slots: 2, table: [5, 8] }, { rotated_heads: 2, inverse: true }),
    // A table that is no rotation: cosine and sine may not be mixed up or assumed to be of length 1.
    one(
      'any_table',
      { rows: 4, slots: 2, table: [5, 8] },
      { rotated_heads: 2, layout: 'interleaved' },
      {
        random: true,
      },
    ),
    one('qkv', { rows: 37, slots: 6, table: [64, 32] }, { head_dim: 32, rotated_heads: 4 }),
    one('wide', { rows: 3, slots: 5, table: [40, 64] }, { head_dim: 128, rotated_heads: 5 }),
    one(
      'bf16_half',
      { rows: 5, slots: 3, table: [16, 32] },
      { head_dim: 32, rotated_heads: 2 },
      { format: 'bf16' },
    ),
    one(
      'f16_interleaved',
      { rows: 5, slots: 3, table: [16, 16] },
      { head_dim: 16, rotated_heads: 2, layout: 'interleaved', inverse: true },
      { format: 'f16' },
    ),
    one('bf16_partial', { rows: 5, slots: 3, table: [11, 6] }, { head_dim: 10 }, { format: 'bf16' }),
  ],
})

/** Indices of pair `i` of the head that starts at `start`. */
function pair({ layout }: RopeAttributes, half: number, start: number, i: number): [number, number] {
  return layout === 'half' ? [start + i, start + half + i] : [start + 2 * i, start + 2 * i + 1]
}
