import type { ScoreAttributes } from '../../../src/ops/attention_math.ts'
import type { PagedAttributes } from '../../../src/ops/attention_paged.ts'
import type { OpCall } from '../../../src/ops/contract.ts'
import { PAGE_TOKENS } from '../../../src/ops/kv_write.ts'
import { elementCount } from '../../../src/tensor/type.ts'
import type { KernelChoice, LaunchPlan } from '../../backend.ts'
import { formatNumbers } from './matmul_epilogue.ts'
import { tensorMap } from './matmul_plan.ts'
import { type CudaTraits, launch } from './rule.ts'
import { selectVariant } from './variant.ts'

/** Queries and tokens of a step of kernels-cuda/attention_paged_wgmma.sm_90a.cu, and dims of the boxes that copies bring. */
const QUERY_ROWS = 128
const STEP_TOKENS = 128
const BOX_DIMS = 64
/** Heads of a tile, at most: a box has whole patterns of eight rows. */
const MOST_HEADS = 16
/** Cycles of a step by head size: of tensor cores, at 64 dims of exponentials alike. Predicted, not measured. */
const stepCycles: Readonly<Record<number, number>> = { 64: 1024, 128: 2048 }

/**
 * Heads that share keys are in one tile, as many as its rows divide by: so it has rows of few sequences, and walks the
 * pages of each once for all heads.
 */
function headsOfTile({ heads, kv_heads }: ScoreAttributes): number {
  const sharing = heads / kv_heads
  let most = 1
  while (most < MOST_HEADS && sharing % (2 * most) === 0) most *= 2
  return most
}

/**
 * Prefill on Hopper's tensor cores; undefined where formats, head size or architecture do not allow it, or tuning knows
 * better. Of how far sequences reach, only the size of their page tables is known.
 */
export function attentionPagedWgmma(call: OpCall, traits: CudaTraits): KernelChoice | undefined {
  const a: PagedAttributes = call.attrs
  const { qkv, k_pool, page_table } = call.inputs as Record<string, NonNullable<OpCall['inputs'][string]>>
  const ofStep = stepCycles[a.head_dim]
  const cached = k_pool!.format
  if (traits.arch !== 'sm_90a' || ofStep === undefined) return undefined
  if (!['f16', 'bf16'].includes(qkv!.format) || !['f16', 'e4m3'].includes(cached)) return undefined
  const rows = qkv!.shape[0]!
  const tokens = page_table!.shape[1]! * PAGE_TOKENS
  const span = QUERY_ROWS / headsOfTile(a)
  const tiles = Math.ceil(rows / span) * (a.heads / headsOfTile(a))
  const steps = Math.ceil((a.window > 0 ? Math.min(tokens, a.window + span) : tokens) / STEP_TOKENS)
  const selection = {
    op: call.op,
    formats: `${cached}_${a.head_dim}`,
    shape: { rows, heads: a.heads },
  }
  return selectVariant(traits, selection, [
    {
      name: 'wgmma',
      cycles: ofStep * steps * Math.max(1, tiles / traits.multiprocessors),
      choice: () => ({ launches: [launchOf(call, span, Math.min(tiles, traits.multiprocessors))] }),
    },
  ])
}

function launchOf(call: OpCall, span: number, blocks: number): LaunchPlan {
  const a: PagedAttributes = call.attrs
  const { qkv, k_pool, page_table } = call.inputs
  const { head_dim: dim } = a
  const { format, shape } = k_pool!
  const pools =
    format === 'f16'
      ? ['k_pool', 'v_pool'].map((name) =>
          tensorMap(name, formatNumbers.f16!, [elementCount(shape) / dim, dim], [PAGE_TOKENS, BOX_DIMS]),
        )
      : []
  return launch(
    'attention_paged_wgmma.sm_90a',
    `attention_paged_wgmma_${format}_${dim}`,
    blocks,
    [
      ...['qkv', 'k_pool', 'v_pool', 'page_table', 'sequence', 'position'].map(
        (port) => ({ port, access: 'read' }) as const,
      ),
      { port: 'y', access: 'write' },
    ],
    {
      ...tensorMap('qkv', formatNumbers[qkv!.format]!, qkv!.shape as readonly [number, number], [
        span,
        BOX_DIMS,
      ]),
      ...Object.assign({}, ...pools),
      queries_f16: Number(qkv!.format === 'f16'),
      output_format: formatNumbers[call.outputs.y!.format]!,
      rows: qkv!.shape[0]!,
      heads: a.heads,
      kv_heads: a.kv_heads,
      pages: page_table!.shape[1]!,
      window: a.window,
      span,
      scale: a.scale,
      softcap: a.softcap,
    },
  )
}
