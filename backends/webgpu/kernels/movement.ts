import { reduceSpan } from '../../../src/ops/reduce.ts'
import { strides } from '../../../src/ops/transpose.ts'
import { elementCount, lastDim, tensorType } from '../../../src/tensor/type.ts'
import type { LaunchPlan } from '../../backend.ts'
import { flatGrid } from './elementwise.ts'
import { packOf, rowReduction } from './row.ts'
import { foldGrid, type KernelRule, type WebGpuTraits } from './rule.ts'
import { weightParts } from './weight_parts.ts'

export const transpose: KernelRule = ({ attrs, inputs, outputs }) => {
  const permutation: readonly number[] = attrs.permutation
  const last = permutation.length - 1
  // Whole packs can only move together where the last dim stays last.
  const pack = permutation[last] === last ? packOf(lastDim(inputs.x!.shape)) : 1
  const leading = Array<number>(4 - permutation.length).fill(1)
  const sizes = [...leading, ...outputs.y!.shape]
  const from = strides(inputs.x!.shape)
  const steps = [...leading, ...permutation.map((d) => (d === last ? 1 : from[d]! / pack))]
  const grid = flatGrid(elementCount(sizes) / pack)
  return {
    launches: [
      {
        variant: 'transpose',
        modules: ['transpose', `lib/pack_${pack}`],
        constants: {
          ...grid.constants,
          SIZE1: sizes[1]!,
          SIZE2: sizes[2]!,
          SIZE3: sizes[3]! / pack,
          STEP0: steps[0]!,
          STEP1: steps[1]!,
          STEP2: steps[2]!,
          STEP3: steps[3]!,
        },
        workgroups: grid.workgroups,
        bindings: [
          { port: 'x', access: 'read' },
          { port: 'y', access: 'write' },
        ],
      },
    ],
  }
}

/** Elements that one workgroup folds where a whole tensor is reduced. */
const SPAN = 4096

export const reduce: KernelRule = (call, traits) => {
  if (call.attrs.axis === 'first') return reduceFirst(call, traits)
  const { attrs, inputs } = call
  const count = elementCount(inputs.x!.shape)
  const scale = attrs.kind === 'mean' ? 1 / reduceSpan(attrs, inputs.x!.shape) : 1
  const span = Math.min(reduceSpan(attrs, inputs.x!.shape), attrs.axis === 'all' ? SPAN : count)
  const spans = Math.ceil(count / span)
  if (attrs.axis === 'last' || spans === 1)
    return { launches: [fold(attrs.kind, count, span, scale, 'x', 'y', traits)] }
  return {
    launches: [
      fold(attrs.kind, count, span, 1, 'x', 'partial', traits),
      fold(attrs.kind, spans, spans, scale, 'partial', 'y', traits),
    ],
    scratch: { partial: tensorType('f32', spans) },
  }
}

/**
 * One invocation per pack of y. An x larger than one binding goes through several launches: each continues the chain
 * that the one before left in y.
 */
const reduceFirst: KernelRule = ({ attrs, inputs }, { limits }) => {
  const { shape } = inputs.x!
  const width = elementCount(shape) / shape[0]!
  const rows = weightParts(tensorType('f32', shape[0]!, width), limits)
  if (typeof rows === 'string') return { unsupported: `${rows}; reduce fewer columns at once` }
  const grid = flatGrid(width / packOf(width))
  return {
    launches: rows.map((part) => ({
      variant: 'reduce_first',
      modules: ['reduce_first', `lib/pack_${packOf(width)}`, `lib/fold_${foldOf(attrs.kind)}`],
      constants: {
        ...grid.constants,
        ROWS: part.rows,
        CONTINUES: part.first > 0 ? 1 : 0,
        SCALE: attrs.kind === 'mean' && part === rows.at(-1) ? 1 / shape[0]! : 1,
      },
      workgroups: grid.workgroups,
      bindings: [
        { port: 'x', access: 'read', ...part.range },
        { port: 'y', access: part.first > 0 ? 'read_write' : 'write' },
      ],
    })),
  }
}

/** The module `lib/fold_<hook>`. */
const foldOf = (kind: string): 'max' | 'sum' => (kind === 'max' ? 'max' : 'sum')

function fold(
  kind: string,
  count: number,
  span: number,
  scale: number,
  from: string,
  to: string,
  traits: WebGpuTraits,
): LaunchPlan {
  const pack = count % 4 === 0 ? packOf(span) : 1
  const { module, workgroup } = rowReduction(traits)
  const spans = Math.ceil(count / span)
  const { workgroups, gridX } = foldGrid(spans)
  return {
    variant: 'reduce',
    modules: [
      'reduce',
      `lib/pack_${pack}`,
      `lib/fold_${foldOf(kind)}`,
      `lib/fold_lanes_${foldOf(kind)}`,
      module,
    ],
    constants: {
      COUNT_PACKS: count / pack,
      SPAN_PACKS: span / pack,
      SPANS: spans,
      SCALE: scale,
      GRID_X: gridX,
      WORKGROUP: workgroup,
    },
    workgroups,
    bindings: [
      { port: from, access: 'read' },
      { port: to, access: 'write' },
    ],
  }
}

export const broadcast: KernelRule = ({ attrs, inputs, outputs }) => {
  const count = elementCount(outputs.y!.shape)
  const span = count / elementCount(inputs.x!.shape)
  const grid = flatGrid(count / packOf(span))
  return {
    launches: [
      {
        variant: 'broadcast',
        modules: ['broadcast', `lib/pack_${packOf(span)}`],
        constants: { ...grid.constants, SPAN_PACKS: span / packOf(span), FACTOR: attrs.factor },
        workgroups: grid.workgroups,
        bindings: [
          { port: 'x', access: 'read' },
          { port: 'y', access: 'write' },
        ],
      },
    ],
  }
}
