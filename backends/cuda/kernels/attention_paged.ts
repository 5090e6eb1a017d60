import type { ScoreAttributes } from '../../../src/ops/attention_math.ts'
import type { OpCall } from '../../../src/ops/contract.ts'
import { PAGE_TOKENS } from '../../../src/ops/kv_write.ts'
import { formatOf } from '../../../src/tensor/format.ts'
import { tensorType } from '../../../src/tensor/type.ts'
import type { KernelChoice, LaunchPlan } from '../../backend.ts'
import { attentionPagedWgmma } from './attention_paged_wgmma.ts'
import { splitsOf } from './attention_splits.ts'
import { formatNumbers } from './matmul_epilogue.ts'
import { type CudaTraits, type KernelRule, launch } from './rule.ts'

/** Query heads that share a block of the decode kernel. */
const HEADS = 4
/** Pairs of row and query head in a tile of the prefill kernel. */
const ITEMS = 64

const cache = ['qkv', 'k_pool', 'v_pool', 'page_table', 'sequence', 'position'].map(
  (port) => ({ port, access: 'read' }) as const,
)

/** Scores in the base-2 domain, as lib/paged.h wants them. */
const scores = ({ scale, softcap }: ScoreAttributes): { scale: number; cap: number } =>
  softcap > 0 ? { scale: scale / softcap, cap: softcap * Math.LOG2E } : { scale: scale * Math.LOG2E, cap: 0 }

/** Numbers of the formats of activations. */
const activations = ({ inputs, outputs }: OpCall) => ({
  qkv_format: formatNumbers[inputs.qkv!.format]!,
  output_format: formatNumbers[outputs.y!.format]!,
})

function decode(call: OpCall, rows: number, pages: number, traits: CudaTraits): KernelChoice {
  const attrs = call.attrs as ScoreAttributes
  const { heads, kv_heads, head_dim: dim, window } = attrs
  const { format } = call.inputs.k_pool!
  const blocks = rows * kv_heads * Math.ceil(heads / kv_heads / HEADS)
  const seen = window > 0 ? Math.min(pages, Math.ceil(window / PAGE_TOKENS) + 1) : pages
  const splits = splitsOf(
    {
      blocks,
      pages: seen,
      pageBytes: 2 * PAGE_TOKENS * dim * formatOf(format).blockBytes,
      sumsBytes: 4 * rows * heads * (dim + 2),
    },
    traits.multiprocessors,
  )
  const { output_format } = activations(call)
  const attend = (bindings: LaunchPlan['bindings']): LaunchPlan =>
    launch('attention_paged', `attention_paged_decode_${format}`, blocks * splits, [...cache, ...bindings], {
      ...activations(call),
      heads,
      kv_heads,
      dim,
      pages,
      window,
      splits,
      ...scores(attrs),
    })
  if (splits === 1) return { launches: [attend([{ port: 'y', access: 'write' }])] }
  const items = rows * heads
  return {
    launches: [
      attend([
        { port: 'sums', access: 'write' },
        { port: 'statistics', access: 'write' },
      ]),
      launch(
        'attention_paged',
        'attention_paged_merge',
        Math.ceil(items / 8),
        [
          { port: 'sums', access: 'read' },
          { port: 'statistics', access: 'read' },
          { port: 'y', access: 'write' },
        ],
        { output_format, items, dim, splits },
      ),
    ],
    scratch: {
      sums: tensorType('f32', items, splits, dim),
      statistics: tensorType('f32', items, splits, 2),
    },
  }
}

/**
 * One row for each sequence is decoding; anything else is taken for runs of rows that share their sequence's tokens, on
 * Hopper's tensor cores where qkv has 16 bits.
 */
export const attention_paged: KernelRule = (call, traits) => {
  const { attrs, inputs } = call
  const { heads, kv_heads, head_dim: dim, window } = attrs as ScoreAttributes
  const { format } = inputs.k_pool!
  const rows = inputs.qkv!.shape[0]!
  const [batch, pages] = inputs.page_table!.shape as [number, number]
  if (rows === batch) return decode(call, rows, pages, traits)
  const exact = attentionPagedWgmma(call, traits)
  if (exact) return exact
  const tiles = Math.ceil((rows * (heads / kv_heads)) / ITEMS)
  return {
    launches: [
      launch(
        'attention_paged_prefill',
        `attention_paged_prefill_${format}`,
        tiles * kv_heads,
        [...cache, { port: 'y', access: 'write' }],
        { ...activations(call), rows, heads, kv_heads, dim, pages, window, ...scores(attrs) },
      ),
    ],
  }
}
