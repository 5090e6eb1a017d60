import type { OpCall } from '../../../src/ops/contract.ts'
import type { FormatName } from '../../../src/tensor/format.ts'
import type { LaunchPlan } from '../../backend.ts'
import { formatNumbers } from './matmul_epilogue.ts'
import { launch } from './rule.ts'

/**
 * matmul_grouped or its gradient for x as y[r,c] = sum of `depth` products of a and an expert's b, where a has y's rows, b
 * its columns; its gradient for w as such a y for each expert, summed over its rows.
 */
export interface GroupedProduct {
  readonly a: string
  readonly b: string
  readonly y: LaunchPlan['bindings'][number]
  /** Of y. */
  readonly format: FormatName
  /** Whether there is a y for each expert, which is added to. */
  readonly ofWeights: boolean
  readonly sizes: Readonly<Record<'rows' | 'columns' | 'depth' | 'experts', number>>
  /** What kernels are told besides. */
  readonly constants: Readonly<Record<string, number>>
}

const products: Readonly<Record<string, (call: OpCall) => GroupedProduct>> = {
  matmul_grouped({ inputs: { x, w }, outputs: { y } }) {
    const [experts, columns, depth] = w!.shape as readonly [number, number, number]
    const { format } = y!
    return {
      a: 'x',
      b: 'w',
      y: { port: 'y', access: 'write' },
      format,
      ofWeights: false,
      sizes: { rows: x!.shape[0]!, columns, depth, experts },
      constants: { output_format: formatNumbers[format]! },
    }
  },
  matmul_grouped_backward_input({ inputs: { dy, w }, outputs: { dx } }) {
    const [experts, depth, columns] = w!.shape as readonly [number, number, number]
    const { format } = dx!
    return {
      a: 'dy',
      b: 'w',
      y: { port: 'dx', as: 'y', access: 'write' },
      format,
      ofWeights: false,
      sizes: { rows: dy!.shape[0]!, columns, depth, experts },
      constants: { output_format: formatNumbers[format]! },
    }
  },
  matmul_grouped_backward_weight({ inputs: { accumulator, dy } }) {
    const [experts, rows, columns] = accumulator!.shape as readonly [number, number, number]
    return {
      a: 'dy',
      b: 'x',
      y: { port: 'accumulator', as: 'y', access: 'read_write' },
      format: 'f32',
      ofWeights: true,
      sizes: { rows, columns, depth: dy!.shape[0]!, experts },
      constants: {},
    }
  },
}

export const groupedProductOf = (call: OpCall): GroupedProduct => products[call.op]!(call)

/** Rows of a block of matmul_grouped_zero. */
const ZERO_ROWS = 64

export const offsets: LaunchPlan['bindings'][number] = { port: 'offsets', access: 'read' }

/** Zeros for the rows of no expert, where the product's launch leaves them out. */
export const zeroLaunch = ({ y, sizes, constants }: GroupedProduct): LaunchPlan => {
  const { rows, columns, experts } = sizes
  return launch('matmul_grouped', 'matmul_grouped_zero', Math.ceil(rows / ZERO_ROWS), [offsets, y], {
    rows,
    columns,
    experts,
    ...constants,
  })
}

/** Tiles that `rows` may be cut into by that many groups, each of which may begin one. */
export const rowTiles = (rows: number, groups: number, tile: number): number =>
  Math.floor(rows / tile) + Math.min(rows, groups)
