import { ModelBuilder, type ModelFamily, type ModelShape } from '../models/model.ts'
import type { Value } from '../ops/contract.ts'
import { Graph } from '../program/graph.ts'
import { externalLayout } from '../program/layout.ts'
import type { ArenaKind, ArenaPlan } from '../program/program.ts'
import { rewrite } from '../program/rewrite.ts'
import { tensorType } from '../tensor/type.ts'
import { differentiate } from './autodiff.ts'

export interface TrainingSpec {
  /** Sequences of one microbatch and their length. */
  readonly batch: number
  readonly sequence: number
  /** Type of the weights the forward and backward launches read; parameters, gradients and moments are f32. */
  readonly compute: 'f32' | 'bf16'
  /** Attention stays inside a document. */
  readonly documentMask: boolean
  readonly recompute: 'none' | 'layer'
}

/** Layouts of the four mirrored arenas of a training run. */
export interface TrainingLayouts {
  readonly layouts: Partial<Record<ArenaKind, ArenaPlan>>
  /** Bytes of the part AdamW decays (matrices) and of all. */
  readonly matrixBytes: number
  readonly bytes: number
}

export function trainingLayouts(family: ModelFamily, config: ModelShape, chunk: number): TrainingLayouts {
  const tensors = family
    .parameters(config)
    .map(({ name, shape }) => ({ name, type: tensorType('f32', ...shape) }))
  const { vectorsAt, ...plan } = externalLayout('parameters', tensors, chunk)
  const layouts: Partial<Record<ArenaKind, ArenaPlan>> = {}
  for (const kind of ['parameters', 'gradients', 'moment1', 'moment2'] as const)
    layouts[kind] = { ...plan, kind }
  return { layouts, matrixBytes: vectorsAt, bytes: plan.bytes }
}

/**
 * The training graph of a model, by segment:
 * - zero: clears the gradients
 * - forward: loss of one microbatch. Inputs ids, targets, documents, positions u32[T], weights f32[T] (already
 *   divided by the number of counted tokens of the whole step). Output: loss[1]
 * - backward_input, backward_weight (or backward): gradients added into their arena
 * - reduce: norm[1] of all gradients, clipping. Input: limit[1] (0: off)
 * - optimizer: AdamW over the ranges of matrices and vectors. Inputs: hyper_matrices[8], hyper_vectors[8]
 * - publish: parameters cast to the compute weights (only when compute is not f32)
 */
export function trainingGraph(
  name: string,
  family: ModelFamily,
  config: ModelShape,
  spec: TrainingSpec,
  layout: TrainingLayouts,
): Graph {
  const rows = spec.batch * spec.sequence
  const arena = spec.compute === 'f32' ? 'parameters' : 'weights'
  const forward = new Graph(name)
  const u32 = (label: string): Value => forward.input(label, tensorType('u32', rows))
  const loss = forward.segment('forward', () => {
    const documents = spec.documentMask ? u32('documents') : undefined
    const m = new ModelBuilder(
      forward,
      {
        ids: u32('ids'),
        positions: u32('positions'),
        maxPositions: spec.sequence,
        attention: (_m, _layer, qkv, { heads, kv_heads, head_dim, scale, window, softcap }) =>
          forward.op(
            'attention',
            { heads, kv_heads, head_dim, sequence: spec.sequence, scale, causal: true, window, softcap },
            { qkv, documents },
          ).y!,
        rows: (_m, x) => x,
      },
      arena,
      (_name, shape) => (shape.length > 1 ? spec.compute : 'f32'),
    )
    const logits = family.build(m, config)
    const weights = forward.input('weights', tensorType('f32', rows))
    return forward.op('cross_entropy', {}, { logits, targets: u32('targets'), weights }).loss!
  })
  forward.segment('forward', () => {
    forward.output('loss', loss)
  })
  const trained = differentiate(forward, {
    roots: [{ value: loss.id }],
    parameters: arena,
    recompute: spec.recompute,
  })
  return aroundBackward(trained, family, config, spec, layout)
}

/** Adds the segments before and after the passes. Segments run as declared, so `zero` is put first. */
function aroundBackward(
  passes: Graph,
  family: ModelFamily,
  config: ModelShape,
  spec: TrainingSpec,
  layout: TrainingLayouts,
): Graph {
  const { matrixBytes, bytes } = layout
  const g = rewrite(passes, () => undefined)
  const range = (kind: ArenaKind, from: number, to: number): Value =>
    g.range(kind, from, tensorType('f32', (to - from) / 4))
  g.segment('zero', () => g.op('fill', { value: 0 }, { x: range('gradients', 0, bytes) }))
  g.segment('reduce', () => {
    const x = range('gradients', 0, bytes)
    const total = g.op('global_norm', {}, { x }).norm!
    g.op('clip_by_norm', {}, { x, norm: total, limit: g.input('limit', tensorType('f32', 1)) })
    g.output('norm', total)
  })
  g.segment('optimizer', () => {
    const update = (part: string, from: number, to: number): void => {
      if (from === to) return
      g.op(
        'adamw',
        {},
        {
          param: range('parameters', from, to),
          moment1: range('moment1', from, to),
          moment2: range('moment2', from, to),
          gradient: range('gradients', from, to),
          hyper: g.input(`hyper_${part}`, tensorType('f32', 8)),
        },
      )
    }
    update('matrices', 0, matrixBytes)
    update('vectors', matrixBytes, bytes)
  })
  if (spec.compute !== 'f32') publish(g, family, config, spec.compute)
  return g
}

/** Segment `publish`: parameters (f32) cast or copied into the weights another program or the next step reads. */
export function publish(
  g: Graph,
  family: ModelFamily,
  config: ModelShape,
  format: 'f32' | 'f16' | 'bf16',
): void {
  g.segment('publish', () => {
    for (const { name, shape } of family.parameters(config)) {
      const x = g.external('parameters', name, tensorType('f32', ...shape))
      const to = shape.length > 1 ? format : 'f32'
      const weights = g.external('weights', name, tensorType(to, ...shape))
      g.op('store', {}, { destination: weights, x })
    }
  })
}
