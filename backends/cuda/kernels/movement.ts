import { reduceSpan } from '../../../src/ops/reduce.ts'
import { strides } from '../../../src/ops/transpose.ts'
import { elementCount, lastDim, type TensorType, tensorType } from '../../../src/tensor/type.ts'
import type { LaunchPlan } from '../../backend.ts'
import { launchThreads, packOf } from './flat.ts'
import { type KernelRule, launch } from './rule.ts'

const fromXToY: LaunchPlan['bindings'] = [
  { port: 'x', access: 'read' },
  { port: 'y', access: 'write' },
]

export const transpose: KernelRule = ({ attrs, inputs, outputs }) => {
  const permutation: readonly number[] = attrs.permutation
  const rank = permutation.length
  const [from, to] = [strides(inputs.x!.shape), strides(outputs.y!.shape)]
  /** The dims of y: their length, and the steps along them in x and in y. */
  const dims = permutation.map((d, i) => ({ size: outputs.y!.shape[i]!, x: from[d]!, y: to[i]! }))
  if (permutation[rank - 1] === rank - 1) {
    const pack = packOf(lastDim(inputs.x!.shape))
    const [d0, d1, d2] = padded(dims.slice(0, -1), 3).map(({ size, x }) => ({ size, step: x / pack }))
    const count = elementCount(inputs.x!.shape) / pack
    return {
      launches: [
        launchThreads('transpose', `transpose_rows_${pack}`, count, fromXToY, {
          size1: d1!.size,
          size2: d2!.size,
          size3: lastDim(inputs.x!.shape) / pack,
          step0: d0!.step,
          step1: d1!.step,
          step2: d2!.step,
          count,
        }),
      ],
    }
  }
  const columns = dims[permutation.indexOf(rank - 1)]!
  const rows = dims[rank - 1]!
  const [outer, inner] = padded(
    dims.filter((d) => d !== columns && d !== rows),
    2,
  )
  const tiles = Math.ceil(rows.size / 32) * Math.ceil(columns.size / 32) * outer!.size * inner!.size
  return {
    launches: [
      launch('transpose', 'transpose_tile', tiles, fromXToY, {
        rows: rows.size,
        columns: columns.size,
        inner: inner!.size,
        row_step: rows.x,
        column_step: columns.y,
        inner_step_x: inner!.x,
        inner_step_y: inner!.y,
        outer_step_x: outer!.x,
        outer_step_y: outer!.y,
      }),
    ],
  }
}

/** Dims of length 1 before others, so that there are `count`. */
const padded = <T>(dims: readonly T[], count: number): (T | { size: 1; x: 0; y: 0 })[] => [
  ...Array.from({ length: count - dims.length }, () => ({ size: 1, x: 0, y: 0 }) as const),
  ...dims,
]

/** Elements that one warp folds. */
const PIECE = 4096

const foldOf = (kind: string): 'max' | 'sum' => (kind === 'max' ? 'max' : 'sum')

/** Rows longer than a piece are folded in as many launches as it takes, through scratch. */
export const reduce: KernelRule = ({ attrs, inputs }) => {
  const { shape } = inputs.x!
  if (attrs.axis === 'first') return { launches: [reduceFirst(attrs.kind, shape)] }
  const rows = elementCount(shape) / reduceSpan(attrs, shape)
  const scale = attrs.kind === 'mean' ? 1 / reduceSpan(attrs, shape) : 1
  const launches: LaunchPlan[] = []
  const scratch: Record<string, TensorType> = {}
  let port = 'x'
  for (let width = reduceSpan(attrs, shape); ; ) {
    const pieces = Math.ceil(width / PIECE)
    const spans = rows * pieces
    const to = pieces === 1 ? 'y' : `partial_${launches.length}`
    const pack = packOf(width)
    launches.push(
      launchThreads(
        'reduce',
        `reduce_${foldOf(attrs.kind)}_${pack}`,
        32 * spans,
        [
          { port, as: 'x', access: 'read' },
          { port: to, as: 'y', access: 'write' },
        ],
        { width: width / pack, piece: PIECE / pack, pieces, spans, scale: pieces === 1 ? scale : 1 },
      ),
    )
    if (pieces === 1) return { launches, scratch }
    scratch[to] = tensorType('f32', spans)
    port = to
    width = pieces
  }
}

function reduceFirst(kind: string, shape: readonly number[]): LaunchPlan {
  const rows = shape[0]!
  const columns = elementCount(shape) / rows
  const pack = packOf(columns)
  const width = columns / pack
  const scale = kind === 'mean' ? 1 / rows : 1
  const kernel = `reduce_first_${foldOf(kind)}_${pack}`
  return launchThreads('reduce', kernel, width, fromXToY, { rows, width, scale })
}

export const broadcast: KernelRule = ({ attrs, inputs, outputs }) => {
  const count = elementCount(outputs.y!.shape)
  const span = count / elementCount(inputs.x!.shape)
  return {
    launches: [
      launchThreads('reduce', 'broadcast', Math.ceil(count / 4), fromXToY, {
        span,
        factor: attrs.factor,
        count,
      }),
    ],
  }
}
