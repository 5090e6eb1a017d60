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
 * Bytes a cycle that L2 gives each multiprocessor of a Hopper when all read, of 5.5 to 6 TB/s that others have measured.
 */
const L2_BYTES_PER_CYCLE = 27

interface Kernel {
  /** What tuning files call it. */
  readonly name: string
  /** Of a cluster, which have the same keys and values and bring them once. */
  readonly blocks: number
  /** Cycles of a tile of queries and keys by head size, for those there are. */
  readonly tileCycles: Readonly<Record<number, number>>
}

/** Tensor cores take 16 cycles a dim for both products, at 64 dims exponentials alike; keys and values are 512 bytes a dim. */
const hopperCycles = (blocks: number) => (dims: number) =>
  Math.max(16 * dims, (512 * dims) / (L2_BYTES_PER_CYCLE * blocks))
const hopper = (name: string, blocks: number): Kernel => {
  const cycles = hopperCycles(blocks)
  return { name, blocks, tileCycles: { 64: cycles(64), 128: cycles(128) } }
}

/**
 * Kernels of both architectures go through a call by the same tiles. On Blackwell exponentials limit at 64 dims, shared
 * memory at 128. Predicted, not measured.
 */
const kernels: Readonly<Record<string, readonly Kernel[]>> = {
  sm_90a: [hopper('wgmma', 1), hopper('wgmma_pair', 2)],
  sm_103a: [{ name: 'tcgen05', blocks: 1, tileCycles: { 64: 700, 128: 1280 } }],
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

/**
 * Heads that share keys are in one tile as far as that makes tiles fewer, which is where rows of a head are few; as many
 * are left as the blocks of a cluster have. Undefined where there are not.
 */
function planOf(a: DenseAttributes, rows: number, blocks: number): Plan | undefined {
  const sharing = a.heads / a.kv_heads
  const plans: Plan[] = []
  for (let heads = 1; heads <= MOST_HEADS && sharing % heads === 0; heads *= 2) {
    if ((sharing / heads) % blocks !== 0) continue
    const span = QUERY_ROWS / heads
    const keys = Math.max(1, Math.floor(L2_BYTES / (4 * a.head_dim * a.sequence)))
    const units = (rows / a.sequence) * (a.heads / heads)
    const sections = Math.ceil(units / ((keys * sharing) / heads))
    const section = Math.ceil(units / sections / blocks) * blocks
    plans.push({ span, units, section, tiles: Math.ceil(a.sequence / span) })
  }
  const most = (best: Plan, plan: Plan): Plan =>
    plan.tiles * plan.units < best.tiles * best.units ? plan : best
  return plans.length > 0 ? plans.reduce(most) : undefined
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
  if (format === 'f32') return undefined
  const variants = (kernels[traits.arch] ?? []).flatMap((kernel) => {
    const ofTile = kernel.tileCycles[a.head_dim]
    const plan = ofTile && planOf(a, rows, kernel.blocks)
    if (!plan) return []
    const { all, most } = keyTiles(a, plan)
    return {
      name: kernel.name,
      cycles: ofTile * Math.max(most, (all * plan.units) / traits.multiprocessors),
      choice: () => launches(call, kernel, plan, traits),
    }
  })
  const selection = {
    op: call.op,
    // Calls have one entry only where they have the same variants.
    formats: `${format}_${a.head_dim}${variants.length > 1 ? '_grouped' : ''}`,
    shape: { rows, sequence: a.sequence, heads: a.heads },
  }
  return selectVariant(traits, selection, variants)
}

function launches(
  call: OpCall,
  { name, blocks }: Kernel,
  plan: Plan,
  { arch, multiprocessors }: CudaTraits,
): KernelChoice {
  const a: DenseAttributes = call.attrs
  const { format, shape } = call.inputs.qkv!
  const [rows, width] = shape as readonly [number, number]
  return {
    launches: [
      launch(
        `attention_${name.replace('_pair', '')}.${arch}`,
        `attention_${name}_${format}_${a.head_dim}`,
        Math.min(plan.tiles * plan.units, multiprocessors - (multiprocessors % blocks)),
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
          'qkv.box_rows': Math.min(plan.span, KEY_ROWS / blocks),
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
