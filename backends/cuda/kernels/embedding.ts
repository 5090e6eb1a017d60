import type { OpCall } from '../../../src/ops/contract.ts'
import { elementCount } from '../../../src/tensor/type.ts'
import type { LaunchPlan } from '../../backend.ts'
import { launchThreads, packOf } from './flat.ts'
import type { KernelRule } from './rule.ts'

/** The id of the table's first row, where it is given. */
const firstId = ({ first }: OpCall['inputs']): LaunchPlan['bindings'] =>
  first ? [{ port: 'first', access: 'read' }] : []

export const embedding: KernelRule = ({ inputs }) => {
  const { format, shape } = inputs.table!
  const [vocabulary, columns] = shape as [number, number]
  const rows = elementCount(inputs.ids!.shape)
  const pack = packOf(columns)
  const width = columns / pack
  return {
    launches: [
      launchThreads(
        'embedding',
        `embedding_${format}_${pack}`,
        rows * width,
        [
          { port: 'ids', access: 'read' },
          { port: 'table', access: 'read' },
          { port: 'y', access: 'write' },
          ...firstId(inputs),
        ],
        { rows, width, vocabulary },
      ),
    ],
  }
}

/** Packs of a row that one warp adds up: four a lane, as in embedding_backward.cu. */
const TILE = 32 * 4

export const embedding_backward: KernelRule = ({ inputs }) => {
  const [vocabulary, columns] = inputs.accumulator!.shape as [number, number]
  const rows = elementCount(inputs.ids!.shape)
  const pack = packOf(columns)
  const width = columns / pack
  const tiles = Math.ceil(width / TILE)
  return {
    launches: [
      launchThreads(
        'embedding_backward',
        `embedding_backward_${pack}`,
        32 * rows * tiles,
        [
          { port: 'ids', access: 'read' },
          { port: 'dy', access: 'read' },
          { port: 'accumulator', access: 'read_write' },
          ...firstId(inputs),
        ],
        { rows, width, tiles, vocabulary },
      ),
    ],
  }
}
