import { type DenseAttributes, densePairs, packedWidth } from '../../../src/ops/attention_math.ts'
import type { OpCall } from '../../../src/ops/contract.ts'
import { tensorType } from '../../../src/tensor/type.ts'
import type { KernelChoice, LaunchPlan } from '../../backend.ts'
import { dense } from './attention.ts'
import { formatNumbers } from './matmul_epilogue.ts'
import { type CudaTraits, type KernelRule, launch } from './rule.ts'
import { selectVariant } from './variant.ts'

/** Rows of a block of kernels-cuda/attention_backward_wgmma.sm_90a.cu, and rows and dims of the boxes it copies. */
const OWN_ROWS = 128
const BOX = 64
/** Dims of its heads. */
const DIMS: readonly number[] = [64, 128]
/** Threads of its blocks for delta, of which each takes four dims. */
const DELTA_THREADS = 256
/** Products of a query with a key that its two walks make, and multiply-adds of a multiprocessor's tensor cores a cycle. */
const PRODUCTS = 7
const MULTIPLY_ADDS = 2048

const query: LaunchPlan['bindings'] = [
  { port: 'dy', access: 'read' },
  { port: 'qkv', access: 'read' },
  { port: 'y', access: 'read' },
  { port: 'lse', access: 'read' },
  { port: 'dqkv', access: 'write' },
  { port: 'delta', access: 'write' },
]

/** Of a launch that reads delta. */
const walk: LaunchPlan['bindings'] = [
  { port: 'dy', access: 'read' },
  { port: 'qkv', access: 'read' },
  { port: 'lse', access: 'read' },
  { port: 'delta', access: 'read' },
  { port: 'dqkv', access: 'write' },
]

/** Portable: the first launch leaves dq and delta, the second one dk and dv. */
export const attention_backward: KernelRule = (call, traits) =>
  wgmma(call, traits) ?? {
    scratch: scratch(call),
    launches: [
      dense(call, 'attention_backward', 'attention_backward_query', call.attrs.heads, query),
      dense(call, 'attention_backward', 'attention_backward_key', call.attrs.kv_heads, walk),
    ],
  }

const scratch = ({ attrs, inputs }: OpCall) => ({
  delta: tensorType('f32', inputs.qkv!.shape[0]!, attrs.heads),
})

/** On Hopper's tensor cores; undefined where operands or architecture do not allow it, or tuning knows better. */
function wgmma(call: OpCall, traits: CudaTraits): KernelChoice | undefined {
  const a: DenseAttributes = call.attrs
  const { format, shape } = call.inputs.qkv!
  const rows = shape[0]!
  if (traits.arch !== 'sm_90a' || format === 'f32' || !DIMS.includes(a.head_dim)) return undefined
  const work = PRODUCTS * a.head_dim * a.heads * densePairs(a, rows)
  return selectVariant(
    traits,
    {
      op: call.op,
      formats: `${format}_${a.head_dim}`,
      shape: { rows, sequence: a.sequence, heads: a.heads },
    },
    [
      {
        name: 'wgmma',
        cycles: work / MULTIPLY_ADDS / traits.multiprocessors,
        choice: () => ({ scratch: scratch(call), launches: launches(call, traits) }),
      },
    ],
  )
}

/** delta, then dk and dv by blocks of keys, then dq by blocks of queries. */
function launches({ attrs, inputs }: OpCall, { multiprocessors }: CudaTraits): LaunchPlan[] {
  const a: DenseAttributes = attrs
  const { format, shape } = inputs.qkv!
  const rows = shape[0]!
  const of = `${a.head_dim}_${format}`
  const module = 'attention_backward_wgmma.sm_90a'
  const map = (name: string, width: number) => ({
    [`${name}.format`]: formatNumbers[format]!,
    [`${name}.rows`]: rows,
    [`${name}.width`]: width,
    [`${name}.box_rows`]: BOX,
    [`${name}.box_width`]: BOX,
  })
  const tiles = Math.ceil(a.sequence / OWN_ROWS) * (rows / a.sequence)
  const walking = (owner: 'key' | 'query', heads: number): LaunchPlan => {
    const items = tiles * heads
    return launch(
      module,
      `attention_backward_wgmma_${owner}_${of}`,
      Math.min(items, multiprocessors),
      inputs.documents ? [...walk, { port: 'documents', access: 'read' }] : walk,
      {
        ...map('qkv', packedWidth(a)),
        ...map('dy', a.heads * a.head_dim),
        items,
        heads: a.heads,
        kv_heads: a.kv_heads,
        dim: a.head_dim,
        sequence: a.sequence,
        causal: Number(a.causal),
        window: a.window,
        scale: a.scale,
        softcap: a.softcap,
        out_bits: a.output ? 16 : 32,
      },
    )
  }
  const count = rows * a.heads
  return [
    launch(
      module,
      `attention_backward_delta_${of}`,
      Math.ceil((count * a.head_dim) / 4 / DELTA_THREADS),
      [
        { port: 'dy', access: 'read' },
        { port: 'y', access: 'read' },
        { port: 'delta', access: 'write' },
      ],
      { count },
    ),
    walking('key', a.kv_heads),
    walking('query', a.heads),
  ]
}
