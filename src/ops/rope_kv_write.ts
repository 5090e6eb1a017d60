import { z } from 'zod'
import { type FormatName, formatOf } from '../tensor/format.ts'
import { type HeadAttributes, headSchema, PADDING, packedWidth } from './attention_math.ts'
import { normal, values } from './cases.ts'
import { generateConstant } from './constants.ts'
import { type Case, defineOp, type OpCall } from './contract.ts'
import { checkPaged, kv_write, pagedInputs, poolFormats, poolIndex } from './kv_write.ts'
import { type RopeAttributes, rope } from './rope.ts'
import { exact, roundingError } from './tolerance.ts'

export interface RopeKvAttributes extends HeadAttributes {
  readonly layout: RopeAttributes['layout']
}

/** The rotation of all query and key heads. */
export const ropeCall = ({ attrs, inputs }: OpCall<RopeKvAttributes>): OpCall<RopeAttributes> => ({
  op: 'rope',
  attrs: {
    head_dim: attrs.head_dim,
    rotated_heads: attrs.heads + attrs.kv_heads,
    layout: attrs.layout,
    inverse: false,
  },
  inputs: { x: inputs.qkv!, positions: inputs.position!, table: inputs.table! },
  outputs: { y: inputs.qkv! },
})

/** What then goes to the cache. */
export const kvWriteCall = ({ attrs, inputs }: OpCall<RopeKvAttributes>): OpCall<HeadAttributes> => {
  const { heads, kv_heads, head_dim } = attrs
  const { table: _, ...paged } = inputs
  return {
    op: 'kv_write',
    attrs: { heads, kv_heads, head_dim },
    inputs: paged,
    outputs: { k_pool_out: inputs.k_pool!, v_pool_out: inputs.v_pool! },
  }
}

interface Shape {
  readonly format?: FormatName
  readonly qkv?: FormatName
  readonly rotary?: number
  readonly layout?: RopeAttributes['layout']
}

/** Two sequences of which one crosses a page, and a padding row. */
function one(name: string, over: Partial<HeadAttributes>, s: Shape = {}): Case<RopeKvAttributes> {
  const attrs = { heads: 2, kv_heads: 1, head_dim: 8, layout: s.layout ?? 'half', ...over }
  const pool = normal([3, attrs.kv_heads, 64, attrs.head_dim], 1, s.format ?? 'f32')
  const rotary = s.rotary ?? attrs.head_dim
  const made = generateConstant('rope_table', {
    positions: 80,
    rotary_dim: rotary,
    base: 10000,
    scaling: null,
  })
  const sequence = [0, 0, PADDING, 1, 0]
  return {
    name,
    attrs,
    inputs: {
      qkv: normal([sequence.length, packedWidth(attrs)], 1, s.qkv ?? 'f32'),
      table: values([80, rotary], [...made.values]),
      k_pool: pool,
      v_pool: pool,
      page_table: values([2, 2], [1, 2, 0, 0], 'u32'),
      sequence: values([sequence.length], sequence, 'u32'),
      position: values([sequence.length], [62, 63, 0, 17, 64], 'u32'),
    },
  }
}

/**
 * rope of the query and key heads of a packed projection, then kv_write of the keys and values: one launch and one pass
 * over the keys where a decode step would take two.
 */
export const rope_kv_write = defineOp<RopeKvAttributes>({
  name: 'rope_kv_write',
  summary: 'qkv_out = rope(qkv) by position, queries and keys; then kv_write(qkv_out)',
  source: 'as rope and kv_write',
  inputs: {
    qkv: pagedInputs.qkv,
    table: rope.inputs.table!,
    k_pool: pagedInputs.k_pool,
    v_pool: pagedInputs.v_pool,
    page_table: pagedInputs.page_table,
    sequence: pagedInputs.sequence,
    position: { doc: '[T]: place in the sequence, below 64 P, and row of the table', formats: ['u32'] },
  },
  outputs: {
    qkv_out: { doc: '[T, (H + 2 KV) D], the format of qkv', formats: pagedInputs.qkv.formats },
    k_pool_out: { doc: '[pages, KV, 64, D]', formats: poolFormats },
    v_pool_out: { doc: '[pages, KV, 64, D]', formats: poolFormats },
  },
  inPlace: { qkv_out: 'qkv', k_pool_out: 'k_pool', v_pool_out: 'v_pool' },
  attributes: z.strictObject({
    ...headSchema,
    layout: z.enum(['half', 'interleaved']),
  }) as z.ZodType<RopeKvAttributes>,
  infer(attrs, inputs) {
    checkPaged('rope_kv_write', attrs, inputs)
    const call = { op: 'rope_kv_write', attrs, inputs, outputs: {} }
    const { attrs: ropeAttributes, inputs: ropeInputs } = ropeCall(call)
    rope.infer(ropeAttributes, ropeInputs)
    return { qkv_out: inputs.qkv!, k_pool_out: inputs.k_pool!, v_pool_out: inputs.v_pool! }
  },
  gradient: { none: 'the cache is for inference' },
  reference(call, given) {
    const { y } = rope.reference(ropeCall(call), {
      x: given.qkv!,
      positions: given.position!,
      table: given.table!,
    })
    const pools = kv_write.reference(kvWriteCall(call), { ...given, qkv: y! })
    return { qkv_out: y!, k_pool_out: pools.k_pool_out!, v_pool_out: pools.v_pool_out! }
  },
  // Keys as rope gives them, which the cache rounds once more than the numbers they are compared with; values are copied.
  tolerance(call, given, { qkv_out, k_pool_out }) {
    const { attrs, inputs } = call
    const rotated = rope.tolerance(
      ropeCall(call),
      { x: given.qkv!, positions: given.position!, table: given.table! },
      { y: qkv_out! },
    ).y!
    const width = packedWidth(attrs)
    const budget = new Float64Array(k_pool_out!.length)
    const { format } = inputs.k_pool!
    for (const [t, b] of given.sequence!.entries()) {
      if (b === PADDING) continue
      for (let h = 0; h < attrs.kv_heads; h++) {
        const to = poolIndex(
          attrs,
          inputs.page_table!.shape[1]!,
          given.page_table!,
          b,
          h,
          given.position![t]!,
        )
        for (let d = 0; d < attrs.head_dim; d++) {
          const error = rotated(t * width + (attrs.heads + h) * attrs.head_dim + d)
          const size = Math.abs(k_pool_out![to + d]!) + error
          budget[to + d] = error === 0 ? 0 : error + 2 * roundingError(format, size)
        }
      }
    }
    return { qkv_out: rotated, k_pool_out: (i) => budget[i]!, v_pool_out: exact }
  },
  flops: (call) => rope.flops(ropeCall(call)),
  work(call, rows) {
    const { attrs, inputs } = call
    const bytes = rows.length * attrs.kv_heads * attrs.head_dim * formatOf(inputs.k_pool!.format).blockBytes
    return { bytes: { k_pool: bytes, v_pool: bytes, table: 4 * rows.length * inputs.table!.shape[1]! } }
  },
  cases: [
    one('half', {}),
    one('interleaved', {}, { layout: 'interleaved' }),
    one('grouped_f16', { heads: 4, kv_heads: 2, head_dim: 16 }, { format: 'f16' }),
    one('partial_f16', { kv_heads: 2, head_dim: 16 }, { format: 'f16', rotary: 8 }),
    one('partial_interleaved', { head_dim: 12 }, { rotary: 4, layout: 'interleaved' }),
    one('odd_rotation', { head_dim: 12 }, { rotary: 6 }),
    one('from_bf16', { heads: 4, kv_heads: 2, head_dim: 64 }, { format: 'f16', qkv: 'bf16' }),
    one('e4m3', { kv_heads: 2, head_dim: 16 }, { format: 'e4m3', qkv: 'bf16' }),
  ],
})
