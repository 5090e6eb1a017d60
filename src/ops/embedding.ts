import { z } from 'zod'
import { check } from '../errors.ts'
import { weightFormats } from '../tensor/format.ts'
import { byteSize, elementCount, lastDim, sameShape, type TensorType, tensorType } from '../tensor/type.ts'
import { integers, normal, values } from './cases.ts'
import { defineOp } from './contract.ts'
import { EPS_F32, readFrom, TINY_F32 } from './tolerance.ts'

/** Where tensor-parallel ranks have a part of the table each: they differ in this input alone, not in the program. */
const first = {
  doc: "[1]: id of the table's first row; 0 where not given",
  formats: ['u32'],
  optional: true,
} as const

function checkFirst(op: string, type: TensorType | undefined): void {
  check(
    type === undefined || (type.shape.length === 1 && type.shape[0] === 1),
    'invalid_shape',
    () => `${op}: first must be [1], got [${type!.shape}]`,
  )
}

/** Bytes of so many rows of a table, of all its rows at most. */
const rowBytes = (table: TensorType, rows: number): number =>
  (byteSize(table) * Math.min(rows, table.shape[0]!)) / table.shape[0]!

/** Row of the table by id, as a u32: ids before the first wrap round to what no table has. */
const rowOf = (id: number, from: Float64Array | undefined): number => (id - (from?.[0] ?? 0)) >>> 0

/**
 * Rows of a table by index: token embeddings, or rows gathered from an activation. An id that the table does not have
 * gives zeros (and no gradient), so padding needs no row.
 */
export const embedding = defineOp<Record<string, never>>({
  name: 'embedding',
  summary: 'y[t,:] = table[ids[t] - first,:], zeros where the table has no such row',
  inputs: {
    ids: { doc: '[...]', formats: ['u32'] },
    table: { doc: '[V, C]', formats: weightFormats },
    first,
  },
  outputs: { y: { doc: '[..., C]', formats: ['f32'] } },
  attributes: z.strictObject({}),
  infer(_attrs, { ids, table, first }) {
    checkFirst('embedding', first)
    check(
      table!.shape.length === 2,
      'invalid_shape',
      () => `embedding: table must be [V, C], got [${table!.shape}]`,
    )
    return { y: tensorType('f32', ...ids!.shape, lastDim(table!.shape)) }
  },
  gradient: {
    table: {
      weight: ({ g, inputs, dOutputs }, accumulator) =>
        g.op('embedding_backward', {}, { accumulator, dy: dOutputs.y, ids: inputs.ids, first: inputs.first })
          .dtable!,
    },
  },
  reference({ inputs }, { ids, table, first }) {
    const [vocabulary, width] = inputs.table!.shape as readonly [number, number]
    const y = new Float64Array(ids!.length * width)
    ids!.forEach((id, t) => {
      const row = rowOf(id, first)
      if (row < vocabulary) y.set(table!.subarray(row * width, (row + 1) * width), t * width)
    })
    return { y }
  },
  // f32, f16 and bf16 are f32 values. A quant (8 bits) times an f16 scale (11 bits) is exact in f32 too, but a
  // product of an f16 subnormal scale that is converted with flushing is zero.
  tolerance: ({ inputs }, _inputs, { y }) => ({ y: readFrom(inputs.table!.format, y!) }),
  flops: () => 0,
  // As if no id came twice.
  work: ({ inputs }) => ({
    flops: 0,
    bytes: { table: rowBytes(inputs.table!, elementCount(inputs.ids!.shape)) },
  }),
  cases: [
    { name: 'one', attrs: {}, inputs: { ids: values([1], [0], 'u32'), table: normal([1, 1]) } },
    {
      name: 'width_1',
      attrs: {},
      inputs: { ids: values([53], [36, 0, 37, 17, 5, 30], 'u32'), table: normal([37, 1]) },
    },
    { name: 'f32', attrs: {}, inputs: { ids: integers([2, 7], 0, 11), table: normal([11, 12]) } },
    { name: 'prime_width', attrs: {}, inputs: { ids: integers([13], 0, 5), table: normal([5, 37]) } },
    {
      name: 'past_table',
      attrs: {},
      inputs: { ids: values([6], [0, 5, 4, 4294967295, 3, 6], 'u32'), table: normal([5, 20]) },
    },
    { name: 'f16', attrs: {}, inputs: { ids: integers([9], 0, 17), table: normal([17, 68], 1, 'f16') } },
    {
      name: 'first',
      attrs: {},
      inputs: {
        ids: values([8], [10, 9, 15, 14, 0, 4294967295, 5, 12], 'u32'),
        table: normal([5, 20]),
        first: values([1], [10], 'u32'),
      },
    },
    {
      name: 'first_q8_0',
      attrs: {},
      inputs: {
        ids: integers([15], 0, 42),
        table: normal([21, 32], 1, 'q8_0'),
        first: values([1], [21], 'u32'),
      },
    },
    {
      name: 'f16_odd_rows',
      attrs: {},
      inputs: { ids: integers([9], 0, 17), table: normal([17, 33], 1, 'f16') },
    },
    {
      name: 'f16_subnormal',
      attrs: {},
      inputs: { ids: integers([5], 0, 9), table: normal([9, 32], 2e-6, 'f16') },
    },
    { name: 'bf16', attrs: {}, inputs: { ids: integers([70], 0, 17), table: normal([17, 36], 1, 'bf16') } },
    {
      name: 'bf16_odd_rows',
      attrs: {},
      inputs: { ids: integers([3], 0, 17), table: normal([17, 35], 1, 'bf16') },
    },
    { name: 'q8_0', attrs: {}, inputs: { ids: integers([15], 0, 21), table: normal([21, 96], 1, 'q8_0') } },
    { name: 'q4_0', attrs: {}, inputs: { ids: integers([15], 0, 21), table: normal([21, 96], 1, 'q4_0') } },
    ...(['e4m3_128', 'mxfp8', 'nvfp4'] as const).map((format) => ({
      name: format,
      attrs: {},
      inputs: { ids: integers([7], 0, 6), table: normal([5, 256], 1, format) },
    })),
  ],
})

/** Gradient of embedding with respect to the table, added to an accumulator in place, in the order of positions. */
export const embedding_backward = defineOp<Record<string, never>>({
  name: 'embedding_backward',
  summary: 'dtable[v,:] = accumulator[v,:] + sum over t with ids[t] - first = v of dy[t,:]',
  inputs: {
    accumulator: { doc: '[V, C], overwritten', formats: ['f32'] },
    dy: { doc: '[..., C]', formats: ['f32'] },
    ids: { doc: '[...]', formats: ['u32'] },
    first,
  },
  outputs: { dtable: { doc: '[V, C]', formats: ['f32'] } },
  inPlace: { dtable: 'accumulator' },
  attributes: z.strictObject({}),
  infer(_attrs, { accumulator, dy, ids, first }) {
    checkFirst('embedding_backward', first)
    const width = lastDim(dy!.shape)
    check(
      sameShape(dy!.shape.slice(0, -1), ids!.shape),
      'invalid_shape',
      () =>
        `embedding_backward: ids must be [${dy!.shape.slice(0, -1)}] as dy [${dy!.shape}], got [${ids!.shape}]`,
    )
    check(
      accumulator!.shape.length === 2 && accumulator!.shape[1] === width,
      'invalid_shape',
      () => `embedding_backward: accumulator must be [V, ${width}], got [${accumulator!.shape}]`,
    )
    return { dtable: accumulator! }
  },
  gradient: { none: 'second derivatives are not used in training' },
  reference({ inputs }, { accumulator, dy, ids, first }) {
    const [vocabulary, width] = inputs.accumulator!.shape as readonly [number, number]
    const dtable = Float64Array.from(accumulator!)
    ids!.forEach((id, t) => {
      const row = rowOf(id, first)
      if (row < vocabulary) for (let c = 0; c < width; c++) dtable[row * width + c]! += dy![t * width + c]!
    })
    return { dtable }
  },
  // A sum of (occurrences + 1) terms: that many roundings of partial sums, each at most the sum of magnitudes.
  tolerance({ inputs }, { accumulator, dy, ids, first }) {
    const width = lastDim(inputs.accumulator!.shape)
    const magnitude = accumulator!.map(Math.abs)
    const terms = new Float64Array(inputs.accumulator!.shape[0]!)
    ids!.forEach((id, t) => {
      const row = rowOf(id, first)
      if (row >= terms.length) return
      terms[row]!++
      for (let c = 0; c < width; c++) magnitude[row * width + c]! += Math.abs(dy![t * width + c]!)
    })
    return {
      dtable: (i) => {
        const n = terms[Math.floor(i / width)]!
        return n === 0 ? 0 : (n + 1) * EPS_F32 * magnitude[i]! + TINY_F32
      },
    }
  },
  flops: ({ inputs }) => elementCount(inputs.dy!.shape),
  work: ({ inputs }) => ({
    bytes: { accumulator: rowBytes(inputs.accumulator!, elementCount(inputs.ids!.shape)) },
  }),
  cases: [
    {
      name: 'one',
      attrs: {},
      inputs: { accumulator: normal([1, 1]), dy: normal([1, 1]), ids: values([1], [0], 'u32') },
    },
    {
      name: 'repeated',
      attrs: {},
      inputs: { accumulator: normal([11, 36]), dy: normal([2, 30, 36]), ids: integers([2, 30], 0, 11) },
    },
    {
      name: 'one_id',
      attrs: {},
      inputs: { accumulator: normal([3, 68]), dy: normal([100, 68]), ids: values([100], [1], 'u32') },
    },
    {
      name: 'past_table',
      attrs: {},
      inputs: {
        accumulator: normal([5, 12]),
        dy: normal([8, 12]),
        ids: values([8], [4, 5, 4294967295, 4, 0, 7, 0, 1], 'u32'),
      },
    },
    {
      name: 'first',
      attrs: {},
      inputs: {
        accumulator: normal([5, 12]),
        dy: normal([9, 12]),
        ids: values([9], [14, 15, 4294967295, 14, 10, 9, 10, 11, 4], 'u32'),
        first: values([1], [10], 'u32'),
      },
    },
    {
      name: 'prime_width',
      attrs: {},
      inputs: { accumulator: normal([17, 131]), dy: normal([23, 131]), ids: integers([23], 0, 17) },
    },
    {
      name: 'wide',
      attrs: {},
      inputs: { accumulator: normal([4, 1028]), dy: normal([9, 1028]), ids: integers([9], 0, 4) },
    },
  ],
})
