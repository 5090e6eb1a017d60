import type { DenseAttributes, ScoreAttributes } from '../../../src/ops/attention_math.ts'
import type { OpCall } from '../../../src/ops/contract.ts'
import { byteSize, type TensorType, tensorType } from '../../../src/tensor/type.ts'
import type { KernelChoice, LaunchPlan } from '../../backend.ts'
import { decide } from './parameter.ts'
import { foldGrid, isCpu, tunable, type WebGpuTraits } from './rule.ts'

/**
 * Most bytes of weights that attention_backward keeps for its second launch: they grow with the square of the sequence,
 * and this bounds what a step's arena pays for them. From which size on computing them again is faster is not measured.
 */
const KEPT_BYTES = 32 << 20

/** How the rows of an attention kernel are dealt out to lanes. */
interface Division {
  /** `lanes`: each lane loads one of eight keys and they are exchanged; `direct`: every lane loads all eight. */
  readonly how: 'lanes' | 'direct'
  readonly modules: readonly string[]
  readonly workgroup: number
  /** Rows per lane. */
  readonly rows: number
}

const parameters = {
  lane_rows: { doc: 'rows of a lane of an attention kernel', values: [1, 2, 4, 8] },
  lanes: {
    doc: 'lanes of a workgroup of an attention kernel, where each loads all keys',
    values: [8, 16, 32, 64],
  },
}

/** Can eight lanes exchange the keys that each of them loaded? They must be a subgroup: CPU drivers with 256-bit vectors. */
const exchanges = ({ features, subgroupSize }: WebGpuTraits): boolean =>
  features.has('subgroups') && subgroupSize === 8

/**
 * On CPU drivers every load is done lane by lane and four rows of a lane share it. GPUs serve one address to all lanes
 * at once and have lanes enough, so there each lane has one row. More lanes than the `rows` there are would be idle. On
 * CPU drivers counted loops compile ten times sooner than unrolled ones.
 *
 * @param window where keys are taken by eights from a tile's own first one, the tile decides the order of sums: it is
 *   not left to the tuning then
 */
function division(
  traits: WebGpuTraits,
  op: string,
  variant: string,
  shape: { readonly rows: number; readonly dim: number },
  window: number,
): Division {
  const { subgroupSize } = traits
  const exchanged = exchanges(traits)
  const how = exchanged ? 'lanes' : 'direct'
  const loops = subgroupSize > 8 ? 'literal' : 'counted'
  const rows = isCpu(traits) ? ([4, 2].find((r) => r * 8 <= shape.rows) ?? 1) : 1
  const lanes = exchanged ? 8 : Math.min(64, Math.max(8, subgroupSize))
  const fitting = parameters.lane_rows.values.filter((r) => r === 1 || r * 8 <= shape.rows)
  const chosen = decide(traits, {
    op,
    kernel: `${variant}_${how}`,
    shape,
    options: {
      lane_rows: { values: window > 0 ? [rows] : fitting, heuristic: rows },
      lanes: { values: window > 0 || exchanged ? [lanes] : parameters.lanes.values, heuristic: lanes },
    },
  })
  const modules = [...(exchanged ? ['lib/spread'] : []), `lib/loops_${loops}`]
  return { how, modules, workgroup: chosen.lanes, rows: chosen.lane_rows }
}

const softcap = (attrs: ScoreAttributes): { module: string; constants: Record<string, number> } =>
  attrs.softcap > 0
    ? { module: 'lib/softcap_tanh', constants: { SOFTCAP: attrs.softcap } }
    : { module: 'lib/softcap_none', constants: {} }

/**
 * Launch of a dense kernel over `heads` heads of every block; `modules` are those that depend on the division.
 *
 * @param documents whether the scores that it computes have document numbers; undefined if it computes none
 */
function dense(
  traits: WebGpuTraits,
  op: string,
  variant: string,
  attrs: DenseAttributes,
  blocks: number,
  heads: number,
  bindings: LaunchPlan['bindings'],
  documents: boolean | undefined,
  modules: (how: Division['how']) => readonly string[],
): LaunchPlan {
  const d = division(traits, op, variant, { rows: attrs.sequence, dim: attrs.head_dim }, attrs.window)
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
      ...modules(d.how),
      ...(documents === undefined
        ? []
        : documents
          ? ['lib/documents', `lib/documents_${d.how}`, cap.module]
          : ['lib/documents_none', cap.module]),
    ],
    constants: {
      HEADS: attrs.heads,
      KV_HEADS: attrs.kv_heads,
      DIM4: attrs.head_dim / 4,
      SEQUENCE: attrs.sequence,
      TILES: tiles,
      GROUPS: groups,
      CAUSAL: attrs.causal ? 1 : 0,
      GRID_X: gridX,
      WORKGROUP: d.workgroup,
      ROWS: d.rows,
      ...(documents !== undefined && { SCALE: attrs.scale, WINDOW: attrs.window, ...cap.constants }),
      ...(documents && { DOCUMENTS_BINDING: bindings.length }),
    },
    workgroups,
    bindings: documents ? [...bindings, { port: 'documents', access: 'read' }] : bindings,
  }
}

export const attention = tunable(parameters, ({ op, attrs, inputs }, traits) => {
  const a: DenseAttributes = attrs
  const blocks = inputs.qkv!.shape[0]! / a.sequence
  const bindings = [
    { port: 'qkv', access: 'read' },
    { port: 'y', access: 'write' },
    { port: 'lse', access: 'write' },
  ] as const
  return {
    launches: [
      dense(traits, op, 'attention', a, blocks, a.heads, bindings, 'documents' in inputs, () => [
        'lib/visible_keys',
      ]),
    ],
  }
})

export const attention_backward = tunable(parameters, (call, traits) => {
  const attrs: DenseAttributes = call.attrs
  return keepsWeights(attrs, call, traits)
    ? backwardKept(attrs, call, traits)
    : backwardAgain(attrs, call, traits)
})

/** Numbers in a row of kept weights: a row's keys in whole eights. */
const keptPitch = ({ sequence }: DenseAttributes): number => Math.ceil(sequence / 8) * 8

const keptType = (a: DenseAttributes, { inputs }: OpCall): TensorType =>
  tensorType('f32', inputs.qkv!.shape[0]!, a.heads, 2, keptPitch(a))

/**
 * Worth it on CPU drivers where every lane loads all keys. A window begins in the middle of eights, which the kept rows
 * are made of.
 */
function keepsWeights(a: DenseAttributes, call: OpCall, traits: WebGpuTraits): boolean {
  return isCpu(traits) && !exchanges(traits) && a.window === 0 && byteSize(keptType(a, call)) <= KEPT_BYTES
}

const queryInputs = [
  { port: 'dy', access: 'read' },
  { port: 'qkv', access: 'read' },
  { port: 'y', access: 'read' },
  { port: 'lse', access: 'read' },
  { port: 'dqkv', access: 'write' },
] as const

/** The second launch computes scores and weights again. */
function backwardAgain(a: DenseAttributes, { op, inputs }: OpCall, traits: WebGpuTraits): KernelChoice {
  const rows = inputs.qkv!.shape[0]!
  const blocks = rows / a.sequence
  const documents = 'documents' in inputs
  const query = [...queryInputs, { port: 'delta', access: 'write' } as const]
  const key = [
    { port: 'dy', access: 'read' },
    { port: 'qkv', access: 'read' },
    { port: 'lse', access: 'read' },
    { port: 'delta', access: 'read' },
    { port: 'dqkv', access: 'write' },
  ] as const
  return {
    scratch: { delta: tensorType('f32', rows, a.heads) },
    launches: [
      dense(traits, op, 'attention_backward_query', a, blocks, a.heads, query, documents, () => [
        'lib/visible_keys',
        'lib/kept_delta',
      ]),
      dense(traits, op, 'attention_backward_key', a, blocks, a.kv_heads, key, documents, (how) => [
        `lib/tile_dy_${how}`,
        `lib/tile_lse_${how}`,
      ]),
    ],
  }
}

/** The second launch reads the weights of the first. */
function backwardKept(a: DenseAttributes, call: OpCall, traits: WebGpuTraits): KernelChoice {
  const { op, inputs } = call
  const blocks = inputs.qkv!.shape[0]! / a.sequence
  const PITCH4 = keptPitch(a) / 4
  const query = [...queryInputs, { port: 'weights', access: 'write' } as const]
  const key = [
    { port: 'dy', access: 'read' },
    { port: 'qkv', access: 'read' },
    { port: 'weights', access: 'read' },
    { port: 'dqkv', access: 'write' },
  ] as const
  const launches = [
    dense(traits, op, 'attention_backward_query', a, blocks, a.heads, query, 'documents' in inputs, () => [
      'lib/visible_keys',
      'lib/kept_weights',
    ]),
    dense(traits, op, 'attention_backward_key_kept', a, blocks, a.kv_heads, key, undefined, (how) => [
      `lib/tile_dy_${how}`,
    ]),
  ]
  return {
    scratch: { weights: keptType(a, call) },
    launches: launches.map((l) => ({ ...l, constants: { ...l.constants, PITCH4 } })),
  }
}

const poolModules = (format: string): string[] => [
  `lib/pool_${format}`,
  ...(format === 'e4m3' ? ['lib/unpack_e4m3'] : []),
]

const pagedBindings: LaunchPlan['bindings'] = [
  { port: 'qkv', access: 'read' },
  { port: 'k_pool', access: 'read' },
  { port: 'v_pool', access: 'read' },
  { port: 'page_table', access: 'read' },
  { port: 'sequence', access: 'read' },
  { port: 'position', access: 'read' },
  { port: 'y', access: 'write' },
]

/**
 * One subgroup per row, key head and at most four of the query heads that share it. On SwiftShader's four lanes it is six
 * times as fast as a lane per head; on lavapipe's eight, where lanes exchange keys, a fifth slower.
 */
function pagedDecode(
  a: ScoreAttributes,
  inputs: OpCall['inputs'],
  { subgroupSize }: WebGpuTraits,
): KernelChoice {
  const format = inputs.k_pool!.format
  const rows = inputs.qkv!.shape[0]!
  const sharing = a.heads / a.kv_heads
  const tiles = Math.ceil(sharing / 4)
  const { workgroups, gridX } = foldGrid(tiles * a.kv_heads * rows)
  const cap = softcap(a)
  return {
    launches: [
      {
        variant: `attention_paged_decode_${format}`,
        modules: ['attention_paged_decode', 'lib/eight', ...poolModules(format), cap.module],
        constants: {
          HEADS: a.heads,
          KV_HEADS: a.kv_heads,
          DIM4: a.head_dim / 4,
          ROWS: rows,
          SPAN: Math.ceil(sharing / tiles),
          TILES: tiles,
          PAGES: inputs.page_table!.shape[1]!,
          SCALE: a.scale,
          WINDOW: a.window,
          GRID_X: gridX,
          WORKGROUP: subgroupSize,
          ...cap.constants,
        },
        workgroups,
        bindings: pagedBindings,
      },
    ],
  }
}

export const attention_paged = tunable(parameters, ({ op, attrs, inputs }, traits) => {
  const a: ScoreAttributes = attrs
  const format = inputs.k_pool!.format
  const rows = inputs.qkv!.shape[0]!
  const items = (rows * a.heads) / a.kv_heads
  const sharing = a.heads / a.kv_heads
  // With a row per sequence (decode) neighbouring rows have no keys in common: a workgroup takes one row.
  const decode = rows <= inputs.page_table!.shape[0]!
  if (decode && isCpu(traits) && traits.features.has('subgroups') && !exchanges(traits))
    return pagedDecode(a, inputs, traits)
  const shape = { rows: decode ? sharing : items, dim: a.head_dim }
  // Runs of rows start at multiples of eight keys, whatever the tile: a window changes nothing.
  const by = division(traits, op, `attention_paged_${format}`, shape, 0)
  const span = decode ? Math.min(sharing, by.workgroup * by.rows) : by.workgroup * by.rows
  const tiles = Math.ceil(items / span)
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
          ...poolModules(format),
          cap.module,
        ],
        constants: {
          HEADS: a.heads,
          KV_HEADS: a.kv_heads,
          DIM4: a.head_dim / 4,
          ITEMS: items,
          SPAN: span,
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
        bindings: pagedBindings,
      },
    ],
  }
})
