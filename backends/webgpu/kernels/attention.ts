import type { DenseAttributes, ScoreAttributes } from '../../../src/ops/attention_math.ts'
import { tensorType } from '../../../src/tensor/type.ts'
import type { LaunchPlan } from '../../backend.ts'
import { foldGrid, type KernelRule, type WebGpuTraits } from './rule.ts'

/** How the rows of an attention kernel are dealt out to lanes. */
interface Division {
  /** `lanes`: each lane loads one of eight keys and they are exchanged; `direct`: every lane loads all eight. */
  readonly how: 'lanes' | 'direct'
  readonly modules: readonly string[]
  readonly workgroup: number
  /** Rows per lane. */
  readonly rows: number
}

/** Heads up to this size are unrolled on CPU drivers: compilation takes a few seconds there, minutes for 64. */
const UNROLLED_ON_CPU = 32

/**
 * The exchange needs subgroups of exactly eight lanes: CPU drivers with 256-bit vectors, where every load is
 * done lane by lane. GPUs serve one address to all lanes at once and have lanes enough, so there each lane has
 * one row. More rows per lane than `registers` vec4 hold makes the drivers spill; for few `rows` they save little,
 * leave cores idle and take the driver seconds to compile, which a first token waits for.
 */
function division(
  { features, subgroupSize }: WebGpuTraits,
  head_dim: number,
  rows: number,
  vec4PerRow: number,
  registers: number,
): Division {
  if (features.has('subgroups') && subgroupSize === 8) {
    const perLane = [4, 2].find((r) => r * vec4PerRow <= registers && r * 32 <= rows) ?? 1
    const loops = head_dim <= UNROLLED_ON_CPU ? 'lib/loops_literal' : 'lib/loops_counted'
    return { how: 'lanes', modules: ['lib/spread', loops], workgroup: 8, rows: perLane }
  }
  const loops = subgroupSize <= 8 ? 'lib/loops_counted' : 'lib/loops_literal'
  return { how: 'direct', modules: [loops], workgroup: Math.min(64, Math.max(8, subgroupSize)), rows: 1 }
}

const softcap = (attrs: ScoreAttributes): { module: string; constants: Record<string, number> } =>
  attrs.softcap > 0
    ? { module: 'lib/softcap_tanh', constants: { SOFTCAP: attrs.softcap } }
    : { module: 'lib/softcap_none', constants: {} }

/** Launch of a dense kernel over `heads` heads of every block. */
function dense(
  variant: string,
  attrs: DenseAttributes,
  blocks: number,
  heads: number,
  d: Division,
  bindings: LaunchPlan['bindings'],
  documents: boolean,
  modules: readonly string[],
): LaunchPlan {
  const tiles = Math.ceil(attrs.sequence / (d.workgroup * d.rows))
  const groups = tiles * heads * blocks
  const { workgroups, gridX } = foldGrid(groups)
  const cap = softcap(attrs)
  return {
    variant: `${variant}_${d.how}`,
    modules: [
      variant,
      'lib/eight',
      ...d.modules,
      `lib/tile_qkv_${d.how}`,
      ...modules,
      ...(documents ? ['lib/documents', `lib/documents_${d.how}`] : ['lib/documents_none']),
      cap.module,
    ],
    constants: {
      HEADS: attrs.heads,
      KV_HEADS: attrs.kv_heads,
      DIM4: attrs.head_dim / 4,
      SEQUENCE: attrs.sequence,
      TILES: tiles,
      GROUPS: groups,
      SCALE: attrs.scale,
      CAUSAL: attrs.causal ? 1 : 0,
      WINDOW: attrs.window,
      GRID_X: gridX,
      WORKGROUP: d.workgroup,
      ROWS: d.rows,
      ...cap.constants,
      ...(documents && { DOCUMENTS_BINDING: bindings.length }),
    },
    workgroups,
    bindings: documents ? [...bindings, { port: 'documents', access: 'read' }] : bindings,
  }
}

export const attention: KernelRule = ({ attrs, inputs }, traits) => {
  const a: DenseAttributes = attrs
  const blocks = inputs.qkv!.shape[0]! / a.sequence
  const bindings = [
    { port: 'qkv', access: 'read' },
    { port: 'y', access: 'write' },
    { port: 'lse', access: 'write' },
  ] as const
  const by = division(traits, a.head_dim, a.sequence, a.head_dim / 2, 64)
  return {
    launches: [
      dense('attention', a, blocks, a.heads, by, bindings, 'documents' in inputs, ['lib/visible_keys']),
    ],
  }
}

export const attention_backward: KernelRule = ({ attrs, inputs }, traits) => {
  const a: DenseAttributes = attrs
  const rows = inputs.qkv!.shape[0]!
  const blocks = rows / a.sequence
  const documents = 'documents' in inputs
  const byQuery = division(traits, a.head_dim, a.sequence, (3 * a.head_dim) / 4, 64)
  const byKey = division(traits, a.head_dim, a.sequence, a.head_dim, 64)
  return {
    scratch: { delta: tensorType('f32', rows, a.heads) },
    launches: [
      dense(
        'attention_backward_query',
        a,
        blocks,
        a.heads,
        byQuery,
        [
          { port: 'dy', access: 'read' },
          { port: 'qkv', access: 'read' },
          { port: 'y', access: 'read' },
          { port: 'lse', access: 'read' },
          { port: 'dqkv', access: 'write' },
          { port: 'delta', access: 'write' },
        ],
        documents,
        ['lib/visible_keys'],
      ),
      dense(
        'attention_backward_key',
        a,
        blocks,
        a.kv_heads,
        byKey,
        [
          { port: 'dy', access: 'read' },
          { port: 'qkv', access: 'read' },
          { port: 'lse', access: 'read' },
          { port: 'delta', access: 'read' },
          { port: 'dqkv', access: 'write' },
        ],
        documents,
        [`lib/tile_dy_${byKey.how}`],
      ),
    ],
  }
}

export const attention_paged: KernelRule = ({ attrs, inputs }, traits) => {
  const a: ScoreAttributes = attrs
  const format = inputs.k_pool!.format
  const items = (inputs.qkv!.shape[0]! * a.heads) / a.kv_heads
  const by = division(traits, a.head_dim, items, a.head_dim / 2, 64)
  const tiles = Math.ceil(items / (by.workgroup * by.rows))
  const groups = tiles * a.kv_heads
  const { workgroups, gridX } = foldGrid(groups)
  const cap = softcap(a)
  return {
    launches: [
      {
        variant: `attention_paged_${format}_${by.how}`,
        modules: [
          'attention_paged',
          'lib/eight',
          ...by.modules,
          `lib/tile_pool_${by.how}`,
          `lib/pool_${format}`,
          cap.module,
        ],
        constants: {
          HEADS: a.heads,
          KV_HEADS: a.kv_heads,
          DIM4: a.head_dim / 4,
          ITEMS: items,
          TILES: tiles,
          GROUPS: groups,
          PAGES: inputs.page_table!.shape[1]!,
          SCALE: a.scale,
          WINDOW: a.window,
          GRID_X: gridX,
          WORKGROUP: by.workgroup,
          ROWS: by.rows,
          ...cap.constants,
        },
        workgroups,
        bindings: [
          { port: 'qkv', access: 'read' },
          { port: 'k_pool', access: 'read' },
          { port: 'v_pool', access: 'read' },
          { port: 'page_table', access: 'read' },
          { port: 'sequence', access: 'read' },
          { port: 'position', access: 'read' },
          { port: 'y', access: 'write' },
        ],
      },
    ],
  }
}
