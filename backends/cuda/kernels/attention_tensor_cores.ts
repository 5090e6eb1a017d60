import type { DenseAttributes } from '../../../src/ops/attention_math.ts'
import type { OpCall } from '../../../src/ops/contract.ts'
import type { KernelChoice } from '../../backend.ts'
import { formatNumbers } from './matmul_epilogue.ts'
import { type CudaTraits, launch } from './rule.ts'
import { selectVariant } from './variant.ts'

/** Queries and keys of a tile of kernels-cuda/lib/attention_items.h, and dims of the boxes that copies bring. */
const QUERY_ROWS = 128
const KEY_ROWS = 128
const BOX_DIMS = 64
/** Heads of a tile, at most: a box has whole patterns of eight rows. */
const MOST_HEADS = 16
/** Keys and values of heads that run together stay in this part of L2, of 50 MB or more. */
const L2_BYTES = 25e6

/**
 * Kernels of both architectures go through a call by the same tiles. Cycles are those of a tile of queries and keys, by
 * head size: on Hopper of tensor cores for both products, at 64 of exponentials alike; on Blackwell of exponentials at 64
 * and of shared memory at 128. Predicted, not measured.
 */
const kernels: Readonly<Record<string, { name: string; tileCycles: Readonly<Record<number, number>> }>> = {
  sm_90a: { name: 'wgmma', tileCycles: { 64: 1024, 128: 2048 } },
  sm_103a: { name: 'tcgen05', tileCycles: { 64: 700, 128: 1280 } },
}

/** How a call is cut into tiles. */
interface Plan {
  /** Rows of a tile that each of its heads has. */
  readonly span: number
  /** Pairs of a block and a tile's heads: how many there are, and how many run together. */
  readonly units: number
  readonly section: number
  readonly tiles: number
}

/** Heads that share keys are in one tile as far as that makes tiles fewer, which is where rows of a head are few. */
function planOf(a: DenseAttributes, rows: number): Plan {
  const sharing = a.heads / a.kv_heads
  const plans: Plan[] = []
  for (let heads = 1; heads <= MOST_HEADS && sharing % heads === 0; heads *= 2) {
    const span = QUERY_ROWS / heads
    const keys = Math.max(1, Math.floor(L2_BYTES / (4 * a.head_dim * a.sequence)))
    const units = (rows / a.sequence) * (a.heads / heads)
    const sections = Math.ceil(units / ((keys * sharing) / heads))
    plans.push({ span, units, section: Math.ceil(units / sections), tiles: Math.ceil(a.sequence / span) })
  }
  return plans.reduce((best, plan) => (plan.tiles * plan.units < best.tiles * best.units ? plan : best))
}

/** Tiles of keys that the tiles of a unit take, without documents: of all, and of the one with most. */
function keyTiles(
  a: DenseAttributes,
  { span, tiles }: Plan,
): { readonly all: number; readonly most: number } {
  const each = Array.from({ length: tiles }, (_, tile) => {
    const first = tile * span
    const end = a.causal ? Math.min(a.sequence, first + span) : a.sequence
    const begin = a.window > 0 ? Math.max(0, first + 1 - a.window) : 0
    return Math.ceil((end - begin) / KEY_ROWS)
  })
  return { all: each.reduce((x, y) => x + y, 0), most: Math.max(...each) }
}

/** Attention on exact tensor cores; undefined where formats, head size or architecture do not allow it, or tuning knows better. */
export function attentionTensorCores(call: OpCall, traits: CudaTraits): KernelChoice | undefined {
  const a: DenseAttributes = call.attrs
  const { format, shape } = call.inputs.qkv!
  const rows = shape[0]!
  const kernel = kernels[traits.arch]
  const ofTile = kernel?.tileCycles[a.head_dim]
  if (!kernel || format === 'f32' || ofTile === undefined) return undefined
  const plan = planOf(a, rows)
  const { all, most } = keyTiles(a, plan)
  const selection = {
    op: call.op,
    formats: `${format}_${a.head_dim}`,
    shape: { rows, sequence: a.sequence, heads: a.heads },
  }
  return selectVariant(traits, selection, [
    {
      name: kernel.name,
      cycles: ofTile * Math.max(most, (all * plan.units) / traits.multiprocessors),
      choice: () => launches(call, kernel.name, plan, traits),
    },
  ])
}

function launches(
  call: OpCall,
  name: string,
  plan: Plan,
  { arch, multiprocessors }: CudaTraits,
): KernelChoice {
  const a: DenseAttributes = call.attrs
  const { format, shape } = call.inputs.qkv!
  const [rows, width] = shape as readonly [number, number]
  return {
    launches: [
      launch(
        `attention_${name}.${arch}`,
        `attention_${name}_${format}_${a.head_dim}`,
        Math.min(plan.tiles * plan.units, multiprocessors),
        [
          { port: 'qkv', access: 'read' },
          { port: 'y', access: 'write' },
          { port: 'lse', access: 'write' },
          ...(call.inputs.documents ? [{ port: 'documents', access: 'read' } as const] : []),
        ],
        {
          'qkv.format': formatNumbers[format]!,
          'qkv.rows': rows,
          'qkv.width': width,
          'qkv.box_rows': plan.span,
          'qkv.box_width': BOX_DIMS,
          heads: a.heads,
          kv_heads: a.kv_heads,
          sequence: a.sequence,
          causal: Number(a.causal),
          window: a.window,
          rows,
          span: plan.span,
          section: plan.section,
          scale: a.scale,
          softcap: a.softcap,
          out_bits: a.output ? 16 : 32,
        },
      ),
    ],
  }
}
