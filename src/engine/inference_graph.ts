import { check } from '../errors.ts'
import { type KvFormat, PAGE_TOKENS } from '../kv_cache/layout.ts'
import {
  ModelBuilder,
  type ModelFamily,
  type ModelShape,
  type Surroundings,
  type TensorParallel,
} from '../models/model.ts'
import { gatherColumns } from '../parallel/collectives/columns.ts'
import { lowerCollectives } from '../parallel/collectives/lower.ts'
import { rankGraph } from '../parallel/stages.ts'
import { Graph } from '../program/graph.ts'
import type { FormatName } from '../tensor/format.ts'
import { tensorType } from '../tensor/type.ts'
import { type ActivationFormat, withActivations } from './activations.ts'
import { type ModelPart, wholeModel } from './ranks.ts'

/** Sizes of an inference program. Everything in it is static. */
export interface InferenceSpec {
  /** Longest sequence, prompt included, in tokens. */
  readonly context: number
  /** Sequences that decode together. */
  readonly batch: number
  /** Row counts of the prefill segments, ascending. */
  readonly prefill: readonly number[]
  /** Storage of weight matrices; vectors stay f32. */
  readonly weights: FormatName
  readonly kv: KvFormat
  /** What products, attention and gates read: default f32; 16 bits with the weights that `checkActivations` says. */
  readonly activations?: ActivationFormat
  /** Declare the logits as an output of every segment (tests, `diff`). */
  readonly logits?: boolean
}

/** Pages of the KV cache: every sequence can grow to the full context. */
export const pagesOf = ({ context, batch }: InferenceSpec): number => batch * Math.ceil(context / PAGE_TOKENS)

export const segmentOfPrefill = (rows: number): string => `prefill_${rows}`

/**
 * The inference graph of one rank, in the simplest case the only one: one prefill segment per bucket and one decode
 * segment over the same weights, KV pages and token history.
 *
 * Inputs of every segment: sequence[T], position[T] (0xffffffff: padding row), page_table[B, P], and for
 * sampling length[B], options[B, 8], key[B, 4], sampled_sequence[B], sampled_position[B] (where the sampled
 * token is written; 0xffffffff: nothing). Prefill also takes ids[T] and rows[B], the row whose logits sequence b
 * samples from. Output: token[B]. A segment has those of them that the rank's part of the model reads or makes.
 *
 * The ranks of the last stage sample, each from the logits of the whole vocabulary, and keep the token history; a decode
 * step begins with their sending its ids to the first stage. With a divided vocabulary first_id[1] says where the rank's
 * part begins.
 */
export function inferenceGraph(
  name: string,
  family: ModelFamily,
  config: ModelShape,
  spec: InferenceSpec,
  { grid, place, choose }: ModelPart = wholeModel,
): Graph {
  const { context, batch } = spec
  check(
    context > 0 && batch > 0,
    'invalid_argument',
    `context ${context} and batch ${batch} must be positive`,
  )
  check(
    context <= config.context,
    'invalid_argument',
    `context ${context} is longer than the model's ${config.context} positions`,
  )
  const g = new Graph(name)
  const u32 = (label: string, ...shape: number[]) => g.input(label, tensorType('u32', ...shape))
  const tensor: TensorParallel = {
    group: 'tensor',
    size: grid.tensor,
    member: place.tensor,
    sequence: false,
  }
  const firstId = tensor.size > 1 ? u32('first_id', 1) : undefined
  const tokens = () => g.external('state', 'tokens', tensorType('u32', batch, context))
  const pageTable = () => u32('page_table', batch, Math.ceil(context / PAGE_TOKENS))

  const pass = (rows: number, isPrefill: boolean): void => {
    const suffix = isPrefill ? `_${rows}` : ''
    const sequence = u32(`sequence${suffix}`, rows)
    const position = u32(`position${suffix}`, rows)
    let ids = isPrefill
      ? u32(`ids${suffix}`, rows)
      : g.op('tokens_read', {}, { tokens: tokens(), sequence, position }).ids!
    let history = tokens()
    if (isPrefill)
      history = g.op('tokens_write', {}, { tokens: history, ids, sequence, position }).tokens_out!
    const surroundings: Surroundings = {
      ids,
      firstId,
      positions: position,
      maxPositions: context,
      attention(_m, layer, qkv, { heads, kv_heads, head_dim, scale, window, softcap }) {
        const type = tensorType(spec.kv, pagesOf(spec), kv_heads, PAGE_TOKENS, head_dim)
        const pools = {
          k_pool: g.external('kv', `layer.${layer}.k`, type),
          v_pool: g.external('kv', `layer.${layer}.v`, type),
        }
        const where = { page_table: pageTable(), sequence, position }
        const written = g.op('kv_write', { heads, kv_heads, head_dim }, { qkv, ...pools, ...where })
        return g.op(
          'attention_paged',
          { heads, kv_heads, head_dim, scale, window, softcap },
          { qkv, k_pool: written.k_pool_out, v_pool: written.v_pool_out, ...where },
        ).y!
      },
      rows: (_m, x) => (isPrefill ? g.op('embedding', {}, { ids: u32('rows', batch), table: x }).y! : x),
    }
    const format = (_name: string, shape: readonly number[]): FormatName =>
      shape.length > 1 ? spec.weights : 'f32'
    const m = new ModelBuilder(g, surroundings, 'weights', format, tensor)
    const logits = gatherColumns({ g, ...tensor }, family.build(m, config))
    ids = g.op(
      'sample',
      {},
      {
        logits,
        options: g.input('options', tensorType('f32', batch, 8)),
        key: u32('key', batch, 4),
        history,
        length: u32('length', batch),
      },
    ).token!
    g.op(
      'tokens_write',
      {},
      {
        tokens: history,
        ids,
        sequence: u32('sampled_sequence', batch),
        position: u32('sampled_position', batch),
      },
    )
    g.output('token', ids)
    if (spec.logits) g.output('logits', logits)
  }

  for (const rows of spec.prefill) g.segment(segmentOfPrefill(rows), () => pass(rows, true))
  g.segment('decode', () => pass(batch, false))
  const part = rankGraph(g, { p: grid.pipeline, v: 1, placement: 'round_robin' }, place.pipeline)
  return lowerCollectives(withActivations(part, spec.activations ?? 'f32'), { ...place }, choose)
}
