import { type DenseAttributes, densePairs } from '../../../src/ops/attention_math.ts'
import type { OpCall } from '../../../src/ops/contract.ts'
import { byteSize, type TensorType, tensorType } from '../../../src/tensor/type.ts'
import type { KernelChoice, LaunchPlan } from '../../backend.ts'
import { dense } from './attention.ts'
import { formatNumbers } from './matmul_epilogue.ts'
import { type CudaTraits, type KernelRule, launch } from './rule.ts'
import { selectVariant, type Variant } from './variant.ts'

/** Own rows of an item of kernels-cuda/lib/attention_walk.h, and rows and dims of the boxes that are copied. */
const OWN_ROWS = 128
const BOX = 64
/** Dims of its heads. */
const DIMS: readonly number[] = [64, 128]
/** Threads of a block of kernels-cuda/attention_backward_delta.cu, of which each takes four dims. */
const DELTA_THREADS = 256
/** Most bytes of ds that are kept between its launches: they grow with the square of the sequence. */
const KEPT_BYTES = 2 ** 32
/** Of a multiprocessor of Hopper: multiply-adds of tensor cores, and bytes of memory (4.8 TB/s over 132 of them at 1.83 GHz). */
const MULTIPLY_ADDS_PER_CYCLE = 2048
const BYTES_PER_CYCLE = 20

/**
 * Cycles of a multiprocessor for a pair of query and key with heads of `dim`, predicted, not measured: two walks have
 * seven products; with ds kept there are four, and one more whose operand comes from memory.
 */
const pairCycles = {
  walk: (dim: number) => (7 * dim) / MULTIPLY_ADDS_PER_CYCLE,
  kept: (dim: number) =>
    (4 * dim) / MULTIPLY_ADDS_PER_CYCLE + Math.max(dim / MULTIPLY_ADDS_PER_CYCLE, 2 / BYTES_PER_CYCLE),
}

/** The same on Blackwell, of steps of both walks: kernels-cuda/attention_backward_tcgen05.sm_103a.cu. */
const stepCycles: Readonly<Record<number, number>> = { 64: 1200 + 1000, 128: 2048 + 1792 }
const STEP_PAIRS = 128 * 128

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
  tensorCores(call, traits) ?? {
    scratch: scratch(call),
    launches: [
      dense(call, 'attention_backward', 'attention_backward_query', call.attrs.heads, query),
      dense(call, 'attention_backward', 'attention_backward_key', call.attrs.kv_heads, walk),
    ],
  }

const scratch = ({ attrs, inputs }: OpCall) => ({
  delta: tensorType('f32', inputs.qkv!.shape[0]!, attrs.heads),
})

/** ds of all pairs: for each query head of each block a row of queries for each key, both padded to whole tiles. */
function keptType(a: DenseAttributes, { inputs }: OpCall): TensorType {
  const { format, shape } = inputs.qkv!
  const pitch = Math.ceil(a.sequence / OWN_ROWS) * OWN_ROWS
  return tensorType(format, (shape[0]! / a.sequence) * a.heads * pitch, pitch)
}

/** On exact tensor cores; undefined where operands or architecture do not allow it, or tuning knows better. */
function tensorCores(call: OpCall, traits: CudaTraits): KernelChoice | undefined {
  const a: DenseAttributes = call.attrs
  const { format, shape } = call.inputs.qkv!
  const rows = shape[0]!
  if (format === 'f32' || !DIMS.includes(a.head_dim)) return undefined
  const pairs = a.heads * densePairs(a, rows)
  const variant = (name: string, cyclesOfPair: number, walks: string, keeping?: TensorType): Variant => ({
    name,
    cycles: (cyclesOfPair * pairs) / traits.multiprocessors,
    choice: () => ({
      scratch: { ...scratch(call), ...(keeping && { kept: keeping }) },
      launches: launches(call, traits, walks, keeping),
    }),
  })
  const variants = (): Variant[] => {
    if (traits.arch === 'sm_103a')
      return [variant('tcgen05', stepCycles[a.head_dim]! / STEP_PAIRS, 'attention_backward_tcgen05')]
    if (traits.arch !== 'sm_90a') return []
    const ds = keptType(a, call)
    // Data of a shape where ds fits says much of one where it does not, but not to take the portable kernel there.
    const kept = byteSize(ds) <= KEPT_BYTES ? ds : undefined
    const walks = 'attention_backward_wgmma'
    return [
      variant('wgmma', pairCycles.walk(a.head_dim), walks),
      variant('wgmma_kept', pairCycles[kept ? 'kept' : 'walk'](a.head_dim), walks, kept),
    ]
  }
  return selectVariant(
    traits,
    {
      op: call.op,
      formats: `${format}_${a.head_dim}`,
      shape: { rows, sequence: a.sequence, heads: a.heads },
    },
    variants(),
  )
}

/**
 * delta, then dk and dv by blocks of keys, then dq by blocks of queries, of what the launch before has kept if it has.
 *
 * @param module of the walks
 */
function launches(
  call: OpCall,
  { arch, multiprocessors }: CudaTraits,
  module: string,
  kept?: TensorType,
): LaunchPlan[] {
  const { inputs } = call
  const a: DenseAttributes = call.attrs
  const { format, shape } = inputs.qkv!
  const rows = shape[0]!
  const of = `${a.head_dim}_${format}`
  const map = (name: string, [height, width]: readonly number[]) => ({
    [`${name}.format`]: formatNumbers[format]!,
    [`${name}.rows`]: height!,
    [`${name}.width`]: width!,
    [`${name}.box_rows`]: BOX,
    [`${name}.box_width`]: BOX,
  })
  const tiles = Math.ceil(a.sequence / OWN_ROWS) * (rows / a.sequence)
  /** A launch whose blocks share `tiles` of each of `heads` heads. */
  const walking = (
    module: string,
    kernel: string,
    heads: number,
    bindings: LaunchPlan['bindings'],
    constants: Readonly<Record<string, number>>,
  ): LaunchPlan =>
    launch(
      `${module}.${arch}`,
      `${kernel}_${of}`,
      Math.min(tiles * heads, multiprocessors),
      inputs.documents ? [...bindings, { port: 'documents', access: 'read' }] : bindings,
      {
        ...map('qkv', shape),
        ...constants,
        items: tiles * heads,
        heads: a.heads,
        kv_heads: a.kv_heads,
        dim: a.head_dim,
        sequence: a.sequence,
        causal: Number(a.causal),
        window: a.window,
        scale: a.scale,
        out_bits: a.output ? 16 : 32,
      },
    )
  const withScores = { ...map('dy', inputs.dy!.shape), softcap: a.softcap }
  const count = rows * a.heads
  return [
    launch(
      'attention_backward_delta',
      `attention_backward_delta_${of}`,
      Math.ceil((count * a.head_dim) / 4 / DELTA_THREADS),
      [
        { port: 'dy', access: 'read' },
        { port: 'y', access: 'read' },
        { port: 'delta', access: 'write' },
      ],
      { count },
    ),
    walking(
      module,
      `${module}_key`,
      a.kv_heads,
      kept ? [...walk, { port: 'kept', access: 'write' }] : walk,
      withScores,
    ),
    kept
      ? walking(
          'attention_backward_kept',
          'attention_backward_kept',
          a.heads,
          [
            { port: 'qkv', access: 'read' },
            { port: 'kept', access: 'read' },
            { port: 'dqkv', access: 'write' },
          ],
          map('kept', kept.shape),
        )
      : walking(module, `${module}_query`, a.heads, walk, withScores),
  ]
}
