import { z } from 'zod'
import { check } from '../errors.ts'
import { type FormatName, formatOf } from '../tensor/format.ts'
import type { TensorType } from '../tensor/type.ts'
import {
  checkPacked,
  checkShape,
  type HeadAttributes,
  headSchema,
  PADDING,
  packedWidth,
} from './attention_math.ts'
import { normal, values } from './cases.ts'
import { type Case, defineOp, type Ports } from './contract.ts'
import { exact } from './tolerance.ts'

/** Tokens of a cache page. */
export const PAGE_TOKENS = 64

/** Checks what kv_write and attention_paged are both given. */
export function checkPaged(op: string, a: HeadAttributes, inputs: Ports<TensorType>): void {
  const rows = checkPacked(op, a, inputs.qkv!.shape)
  const { k_pool, v_pool, page_table } = inputs
  checkShape(op, 'k_pool', k_pool!.shape, [k_pool!.shape[0] ?? 1, a.kv_heads, PAGE_TOKENS, a.head_dim])
  checkShape(op, 'v_pool', v_pool!.shape, k_pool!.shape)
  check(
    k_pool!.format === v_pool!.format,
    'unsupported',
    () => `${op}: both pools must have one format, got ${k_pool!.format} and ${v_pool!.format}`,
  )
  check(
    page_table!.shape.length === 2,
    'invalid_shape',
    () => `${op}: page_table must be [B, P], got [${page_table!.shape}]`,
  )
  for (const port of ['sequence', 'position']) checkShape(op, port, inputs[port]!.shape, [rows])
}

/** Formats of a cache. Keys and values past 448 become 448 in e4m3, which has no scale here. */
export const poolFormats = ['f32', 'f16', 'e4m3'] as const

export const pagedInputs = {
  qkv: {
    doc: '[T, (H + 2 KV) D]: query heads, key heads, value heads',
    formats: ['f32', 'f16', 'bf16'],
  },
  k_pool: { doc: '[pages, KV, 64, D]', formats: poolFormats },
  v_pool: { doc: '[pages, KV, 64, D], the format of k_pool', formats: poolFormats },
  page_table: { doc: '[B, P]: page that holds tokens 64 p to 64 p + 63 of a sequence', formats: ['u32'] },
  sequence: { doc: '[T]: row of the page table; 0xffffffff is padding', formats: ['u32'] },
  position: { doc: '[T]: place in the sequence, below 64 P', formats: ['u32'] },
} as const

/** Start of the vector of `head` at `position` of sequence `b` in a pool. */
export function poolIndex(
  a: HeadAttributes,
  pages: number,
  tables: Float64Array,
  b: number,
  head: number,
  position: number,
): number {
  const page = tables[b * pages + Math.floor(position / PAGE_TOKENS)]!
  return ((page * a.kv_heads + head) * PAGE_TOKENS + (position % PAGE_TOKENS)) * a.head_dim
}

const base: HeadAttributes = { heads: 2, kv_heads: 1, head_dim: 8 }

interface WriteShape {
  readonly format?: FormatName
  readonly qkv?: FormatName
  readonly scale?: number
  readonly pages: number
  readonly table: readonly [batch: number, pages: number, ...entries: number[]]
  readonly sequence: readonly number[]
  readonly position: readonly number[]
}

function one(name: string, over: Partial<HeadAttributes>, s: WriteShape): Case<HeadAttributes> {
  const attrs = { ...base, ...over }
  const pool = normal([s.pages, attrs.kv_heads, PAGE_TOKENS, attrs.head_dim], 1, s.format ?? 'f32')
  const [batch, pages, ...entries] = s.table
  return {
    name,
    attrs,
    inputs: {
      qkv: normal([s.sequence.length, packedWidth(attrs)], s.scale ?? 1, s.qkv ?? 'f32'),
      k_pool: pool,
      v_pool: pool,
      page_table: values([batch, pages], entries, 'u32'),
      sequence: values([s.sequence.length], s.sequence, 'u32'),
      position: values([s.position.length], s.position, 'u32'),
    },
  }
}

/** Appends keys and values of a packed projection to the paged cache. */
export const kv_write = defineOp<HeadAttributes>({
  name: 'kv_write',
  summary:
    'k_pool[page_table[sequence[t], position[t] / 64], :, position[t] % 64] = k[t]; likewise v; padding rows write nothing',
  source: 'Kwon et al., PagedAttention, 2023',
  inputs: pagedInputs,
  outputs: {
    k_pool_out: { doc: '[pages, KV, 64, D]', formats: poolFormats },
    v_pool_out: { doc: '[pages, KV, 64, D]', formats: poolFormats },
  },
  inPlace: { k_pool_out: 'k_pool', v_pool_out: 'v_pool' },
  attributes: z.strictObject(headSchema) as z.ZodType<HeadAttributes>,
  infer(attrs, inputs) {
    checkPaged('kv_write', attrs, inputs)
    return { k_pool_out: inputs.k_pool!, v_pool_out: inputs.v_pool! }
  },
  gradient: { none: 'the cache is for inference' },
  reference({ attrs, inputs }, given) {
    const { heads, kv_heads, head_dim: dim } = attrs
    const [rows, width] = inputs.qkv!.shape as [number, number]
    const format = formatOf(inputs.k_pool!.format)
    const stored = (vector: Float64Array) => format.decode(format.encode(vector), vector.length)
    const [k_pool_out, v_pool_out] = [given.k_pool!.slice(), given.v_pool!.slice()]
    for (let t = 0; t < rows; t++) {
      const b = given.sequence![t]!
      if (b === PADDING) continue
      for (let h = 0; h < kv_heads; h++) {
        const to = poolIndex(
          attrs,
          inputs.page_table!.shape[1]!,
          given.page_table!,
          b,
          h,
          given.position![t]!,
        )
        const from = t * width + (heads + h) * dim
        const value = from + kv_heads * dim
        k_pool_out.set(stored(given.qkv!.subarray(from, from + dim)), to)
        v_pool_out.set(stored(given.qkv!.subarray(value, value + dim)), to)
      }
    }
    return { k_pool_out, v_pool_out }
  },
  // A copy, or rounding to nearest even written out in integers: the same bits everywhere.
  tolerance: () => ({ k_pool_out: exact, v_pool_out: exact }),
  flops: () => 0,
  work({ attrs, inputs }, rows) {
    const { kv_heads, head_dim } = attrs
    const bytes = rows.length * kv_heads * head_dim * formatOf(inputs.k_pool!.format).blockBytes
    // Of a packed projection the keys and values.
    const qkv = rows.length * 2 * kv_heads * head_dim * formatOf(inputs.qkv!.format).blockBytes
    return { bytes: { qkv, k_pool: bytes, v_pool: bytes } }
  },
  cases: [
    one('one', { heads: 1, head_dim: 4 }, { pages: 1, table: [1, 1, 0], sequence: [0], position: [0] }),
    one(
      'prefill',
      {},
      { pages: 3, table: [1, 2, 2, 0], sequence: [0, 0, 0, 0, 0], position: [62, 63, 64, 65, 66] },
    ),
    one(
      'decode',
      { kv_heads: 2 },
      { pages: 4, table: [3, 1, 2, 0, 3], sequence: [0, 1, 2], position: [63, 0, 17] },
    ),
    one(
      'padding',
      {},
      { pages: 2, table: [2, 1, 1, 0], sequence: [1, PADDING, 0, PADDING], position: [5, 6, 7, 0] },
    ),
    one(
      'f16',
      { heads: 4, kv_heads: 2, head_dim: 16 },
      { format: 'f16', pages: 3, table: [2, 1, 2, 0], sequence: [0, 0, 1], position: [9, 10, 11] },
    ),
    one(
      'f16_subnormal',
      {},
      { format: 'f16', scale: 2e-6, pages: 1, table: [1, 1, 0], sequence: [0, 0, 0], position: [1, 2, 3] },
    ),
    one(
      'f16_large',
      {},
      { format: 'f16', scale: 1e4, pages: 1, table: [1, 1, 0], sequence: [0, 0, 0], position: [61, 62, 63] },
    ),
    one(
      'e4m3',
      { heads: 2, kv_heads: 2, head_dim: 12 },
      { format: 'e4m3', pages: 3, table: [2, 1, 2, 0], sequence: [0, 0, 1], position: [9, 10, 63] },
    ),
    one(
      'e4m3_subnormal',
      {},
      { format: 'e4m3', scale: 5e-3, pages: 1, table: [1, 1, 0], sequence: [0, 0], position: [1, 2] },
    ),
    one(
      'e4m3_saturated',
      { heads: 4 },
      {
        format: 'e4m3',
        qkv: 'bf16',
        scale: 400,
        pages: 1,
        table: [1, 1, 0],
        sequence: [0, 0],
        position: [62, 63],
      },
    ),
    one(
      'from_bf16',
      { heads: 4, kv_heads: 2 },
      {
        format: 'f16',
        qkv: 'bf16',
        scale: 3e-6,
        pages: 2,
        table: [1, 2, 1, 0],
        sequence: [0, 0],
        position: [63, 64],
      },
    ),
    one(
      'from_f16',
      { heads: 3 },
      { qkv: 'f16', pages: 1, table: [1, 1, 0], sequence: [PADDING, 0], position: [4, 9] },
    ),
  ],
})
