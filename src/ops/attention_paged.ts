import { z } from 'zod'
import { check } from '../errors.ts'
import { type FormatName, formatOf } from '../tensor/format.ts'
import { tensorType } from '../tensor/type.ts'
import {
  floats,
  PADDING,
  packedViews,
  packedWidth,
  type ScoreAttributes,
  scoreSchema,
  softmaxRow,
  type Vec,
} from './attention_math.ts'
import { normal, pages, values } from './cases.ts'
import { type Case, defineOp, type LiveRow, type OpCall, type Ports } from './contract.ts'
import { checkPaged, PAGE_TOKENS, pagedInputs, poolIndex } from './kv_write.ts'
import { storedIn } from './tolerance.ts'

export interface PagedAttributes extends ScoreAttributes {
  /** Format of y where it is not f32: that of qkv, so that activations stay in 16 bits. */
  readonly output?: 'f16' | 'bf16' | undefined
}

/** Largest error of the elements of a query, in bf16, that is taken as f16 times 2^n, with its largest in [2^15, 2^16). */
const scaledError = (dim: number, { data, at }: Vec): number =>
  2 ** -40 * Math.max(2 ** -63, ...data.subarray(at, at + dim).map(Math.abs))

/** First position that a query at `position` sees. */
const windowStart = (a: ScoreAttributes, position: number): number =>
  a.window > 0 ? Math.max(0, position + 1 - a.window) : 0

function* pagedRows({ attrs, inputs }: OpCall<PagedAttributes>, given: Ports<Float64Array>) {
  const { query } = packedViews(attrs, given.qkv!)
  const group = attrs.heads / attrs.kv_heads
  const { qkv, k_pool } = inputs
  // Tensor cores multiply one format. Where queries have 16 bits and the cache no more, that may be f16, which holds every
  // element of the cache.
  const operand = qkv!.format !== 'f32' && k_pool!.format !== 'f32' ? 'f16' : 'f32'
  const queryError = (q: Vec): number =>
    operand === 'f16' && qkv!.format === 'bf16' ? scaledError(attrs.head_dim, q) : 0
  for (let t = 0; t < inputs.qkv!.shape[0]!; t++) {
    const b = given.sequence![t]!
    if (b === PADDING) continue
    for (let h = 0; h < attrs.heads; h++) {
      const q = query(t, h)
      const at: number[] = []
      for (let u = windowStart(attrs, given.position![t]!); u <= given.position![t]!; u++)
        at.push(
          poolIndex(attrs, inputs.page_table!.shape[1]!, given.page_table!, b, Math.floor(h / group), u),
        )
      const vectors = (data: Float64Array) => at.map((i) => ({ data, at: i }))
      const row = softmaxRow(attrs, q, vectors(given.k_pool!), vectors(given.v_pool!), operand, queryError(q))
      yield { start: (t * attrs.heads + h) * attrs.head_dim, ...row }
    }
  }
}

const base: ScoreAttributes = { heads: 2, kv_heads: 1, head_dim: 8, scale: 0.3, window: 0, softcap: 0 }

/** Query rows of a case: sequence number and position of each. */
export type Rows = readonly (readonly [sequence: number, position: number])[]

export const upTo = (sequence: number, from: number, to: number): Rows =>
  Array.from({ length: to - from + 1 }, (_, i) => [sequence, from + i])

/**
 * A case whose page tables are shuffled; every slot that no query may see, on pages that are owned or not, is
 * filled with NaN, so that reading it once spoils the result.
 */
export function pagedCase(
  name: string,
  over: Partial<PagedAttributes>,
  batch: number,
  rows: Rows,
  format: FormatName = 'f32',
  scale = 1,
  qkv: FormatName = 'f32',
): Case<PagedAttributes> {
  const attrs = { ...base, scale: (over.head_dim ?? base.head_dim) ** -0.5, ...over }
  const perSequence = Math.max(...rows.map(([, p]) => Math.floor(p / PAGE_TOKENS))) + 1
  const count = batch * perSequence + 1
  // Multiplication by a number coprime to `count` is a permutation; page 0 of it is left out.
  const step = [7, 5, 3, 2, 1].find((s) => count % s !== 0) ?? 1
  const table = Array.from({ length: batch * perSequence }, (_, i) => ((i + 1) * step) % count)
  const live = Array<[number, number]>(count).fill([0, 0])
  for (let b = 0; b < batch; b++) {
    const positions = rows.filter(([s]) => s === b).map(([, p]) => p)
    if (positions.length === 0) continue
    const [first, end] = [windowStart(attrs, Math.min(...positions)), Math.max(...positions) + 1]
    for (let p = 0; p < perSequence; p++) {
      const clamp = (x: number): number => Math.min(PAGE_TOKENS, Math.max(0, x - p * PAGE_TOKENS))
      live[table[b * perSequence + p]!] = [clamp(first), clamp(end)]
    }
  }
  const pool = pages([count, attrs.kv_heads, PAGE_TOKENS, attrs.head_dim], live, scale, format)
  return {
    name,
    attrs,
    inputs: {
      qkv: normal([rows.length, packedWidth(attrs)], scale, qkv),
      k_pool: pool,
      v_pool: pool,
      page_table: values([batch, perSequence], table, 'u32'),
      sequence: values(
        [rows.length],
        rows.map(([s]) => s),
        'u32',
      ),
      position: values(
        [rows.length],
        rows.map(([, p]) => p),
        'u32',
      ),
    },
  }
}

/**
 * Prefill whose queries have 16 bits, with the head sizes of tensor cores' tiles: of 128 queries, of all heads that share
 * keys, by 128 tokens. Positions that begin and end inside of pages and of pairs of them; rows of several sequences and
 * none in a tile, and one sequence in several; a window that leaves whole pages behind.
 */
const cases16: readonly Case<PagedAttributes>[] = [
  pagedCase(
    'f16_d64_from_f16',
    { heads: 4, head_dim: 64, output: 'f16' },
    2,
    [...upTo(0, 90, 125), [PADDING, 0], ...upTo(1, 3, 9)],
    'f16',
    1,
    'f16',
  ),
  pagedCase(
    'f16_d128_from_bf16',
    { heads: 2, head_dim: 128, window: 40, softcap: 3, output: 'bf16' },
    1,
    upTo(0, 103, 133),
    'f16',
    1,
    'bf16',
  ),
  pagedCase(
    'e4m3_d64_from_bf16',
    { heads: 3, head_dim: 64, window: 70, output: 'bf16' },
    2,
    [...upTo(1, 60, 70), ...upTo(0, 120, 150)],
    'e4m3',
    1,
    'bf16',
  ),
  pagedCase(
    'e4m3_d128_from_f16',
    { heads: 8, head_dim: 128, output: 'f16' },
    1,
    upTo(0, 122, 131),
    'e4m3',
    1,
    'f16',
  ),
]

/** Attention over the paged cache, for prefill and decode alike; the rows' own keys are already written. */
export const attention_paged = defineOp<PagedAttributes>({
  name: 'attention_paged',
  summary:
    'y[t,h] = softmax_u(cap(scale q[t,h].k[u])) v[u] over cached positions u <= position[t] of sequence[t]',
  source: 'Kwon et al., PagedAttention, 2023',
  inputs: pagedInputs,
  outputs: {
    y: {
      doc: '[T, H D], f32 or the format of qkv; zeros for padding rows',
      formats: ['f32', 'f16', 'bf16'],
    },
  },
  attributes: z.strictObject({
    ...scoreSchema,
    output: z.enum(['f16', 'bf16']).optional(),
  }) as z.ZodType<PagedAttributes>,
  infer(attrs, inputs) {
    checkPaged('attention_paged', attrs, inputs)
    const { format } = inputs.qkv!
    check(
      !attrs.output || attrs.output === format,
      'unsupported',
      () => `attention_paged: y can be f32 or the format of qkv, ${format}, not ${attrs.output}`,
    )
    return { y: tensorType(attrs.output ?? 'f32', inputs.qkv!.shape[0]!, attrs.heads * attrs.head_dim) }
  },
  gradient: { none: 'the cache is for inference; training uses attention' },
  reference(call, given) {
    const y = floats(call.inputs.qkv!.shape[0]! * call.attrs.heads * call.attrs.head_dim)
    for (const row of pagedRows(call, given)) y.set(row.y, row.start)
    return { y }
  },
  tolerance(call, given, { y: expected }) {
    const y = floats(call.inputs.qkv!.shape[0]! * call.attrs.heads * call.attrs.head_dim)
    for (const row of pagedRows(call, given)) y.set(row.yError, row.start)
    return { y: storedIn(call.attrs.output ?? 'f32', (i) => y[i]!, expected!) }
  },
  // How far the sequences reach is known at run time only: counted as if every row saw a full page table.
  flops: ({ attrs, inputs }) =>
    4 * attrs.head_dim * attrs.heads * inputs.qkv!.shape[0]! * inputs.page_table!.shape[1]! * PAGE_TOKENS,
  // Each key and value that a row of its sequence sees, once.
  work({ attrs, inputs }, rows) {
    const { heads, kv_heads, head_dim } = attrs
    const seen = (of: readonly LiveRow[]): number =>
      Math.max(...of.map((r) => r.position)) + 1 - Math.min(...of.map((r) => windowStart(attrs, r.position)))
    const sequences = [...new Set(rows.map((r) => r.sequence))]
    const keys = sequences.reduce((n, s) => n + seen(rows.filter((r) => r.sequence === s)), 0)
    const pairs = rows.reduce((n, row) => n + seen([row]), 0)
    const bytes = keys * kv_heads * head_dim * formatOf(inputs.k_pool!.format).blockBytes
    const qkv = rows.length * heads * head_dim * formatOf(inputs.qkv!.format).blockBytes
    return { flops: 4 * head_dim * heads * pairs, bytes: { qkv, k_pool: bytes, v_pool: bytes } }
  },
  cases: [
    pagedCase('one', { heads: 1, head_dim: 4 }, 1, [[0, 0]]),
    pagedCase('decode', { heads: 4, kv_heads: 2 }, 1, [[0, 70]]),
    pagedCase('decode_batch', { heads: 3, kv_heads: 3 }, 4, [
      [2, 5],
      [0, 63],
      [3, 64],
      [1, 129],
    ]),
    pagedCase('prefill', { heads: 2, kv_heads: 2 }, 1, upTo(0, 0, 20)),
    pagedCase('continue', { heads: 4, kv_heads: 2, head_dim: 16 }, 1, upTo(0, 58, 83)),
    pagedCase('mixed', { heads: 2, kv_heads: 1 }, 3, [
      ...upTo(1, 3, 9),
      ...upTo(0, 0, 2),
      [2, 66],
      [PADDING, 0],
      ...upTo(1, 10, 13),
    ]),
    pagedCase('padding', {}, 2, [
      [PADDING, 3],
      [1, 7],
      [PADDING, 0],
      [PADDING, 9],
    ]),
    pagedCase('window', { window: 5 }, 2, [[0, 2], [1, 67], ...upTo(0, 3, 9)]),
    pagedCase('window_pages', { window: 64, heads: 1 }, 1, [[0, 192]]),
    pagedCase('softcap', { softcap: 2, heads: 2 }, 1, [[0, 33]]),
    pagedCase('f16', { heads: 4, kv_heads: 2, head_dim: 32 }, 2, [...upTo(0, 60, 66), [1, 31]], 'f16'),
    pagedCase('f16_subnormal', {}, 1, [[0, 12]], 'f16', 1e-5),
    pagedCase('d64', { heads: 2, kv_heads: 1, head_dim: 64 }, 1, upTo(0, 0, 34)),
    pagedCase('d128_decode', { heads: 4, kv_heads: 1, head_dim: 128 }, 1, [[0, 90]], 'f16'),
    pagedCase(
      'eight_share_decode',
      { heads: 8, kv_heads: 1, head_dim: 64 },
      2,
      [
        [0, 70],
        [1, 3],
      ],
      'f16',
    ),
    pagedCase('d256', { heads: 1, head_dim: 256 }, 1, upTo(0, 0, 9), 'f16'),
    pagedCase('d20', { heads: 2, head_dim: 20 }, 1, upTo(0, 0, 12)),
    pagedCase('large_magnitude', { heads: 2 }, 1, [[0, 40]], 'f32', 10),
    pagedCase(
      'e4m3_decode',
      { heads: 8, kv_heads: 2, head_dim: 32 },
      2,
      [
        [0, 127],
        [1, 66],
      ],
      'e4m3',
    ),
    pagedCase('e4m3_small', { head_dim: 4 }, 1, [[0, 6]], 'e4m3'),
    pagedCase('e4m3_d80_decode', { heads: 4, head_dim: 80 }, 1, [[0, 68]], 'e4m3'),
    pagedCase('e4m3_d256_decode', { heads: 2, head_dim: 256, softcap: 20 }, 1, [[0, 37]], 'e4m3'),
    pagedCase('e4m3_d80_one_head_decode', { heads: 1, head_dim: 80 }, 1, [[0, 9]], 'e4m3'),
    pagedCase('e4m3_d132_one_head_decode', { heads: 2, kv_heads: 2, head_dim: 132 }, 1, [[0, 5]], 'e4m3'),
    pagedCase('e4m3_splits_decode', { heads: 3, head_dim: 128, window: 140 }, 1, [[0, 260]], 'e4m3'),
    pagedCase('e4m3_prefill', { heads: 2, head_dim: 12 }, 1, upTo(0, 60, 66), 'e4m3'),
    // qkv in 16 bits
    pagedCase(
      'e4m3_from_bf16',
      { heads: 4, kv_heads: 2, head_dim: 16, window: 70, output: 'bf16' },
      1,
      [[0, 130]],
      'e4m3',
      1,
      'bf16',
    ),
    pagedCase(
      'from_f16_decode',
      { heads: 6, head_dim: 16, output: 'f16' },
      2,
      [
        [0, 70],
        [1, 3],
      ],
      'f16',
      1,
      'f16',
    ),
    pagedCase('from_f16_prefill', { heads: 4, kv_heads: 2 }, 1, upTo(0, 60, 66), 'f16', 1, 'f16'),
    pagedCase(
      'from_bf16_decode',
      { heads: 4, head_dim: 32, output: 'bf16' },
      1,
      [[0, 200]],
      'f16',
      1,
      'bf16',
    ),
    ...cases16,
    pagedCase(
      'from_bf16_prefill',
      { softcap: 3, output: 'bf16' },
      2,
      [...upTo(1, 3, 9), [0, 1]],
      'f32',
      1,
      'bf16',
    ),
  ],
})
