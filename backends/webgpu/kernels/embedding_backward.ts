import { elementCount, lastDim } from '../../../src/tensor/type.ts'
import { withRowOfId } from './embedding.ts'
import { foldGrid, type KernelRule } from './rule.ts'
import { weightParts } from './weight_parts.ts'

/** An accumulator larger than a binding takes a launch per part of its rows. */
export const embedding_backward: KernelRule = ({ inputs }, { limits, subgroupSize }) => {
  const table = inputs.accumulator!
  const rows = elementCount(inputs.ids!.shape)
  const pack = lastDim(table.shape) % 4 === 0 ? 4 : 1
  const width = lastDim(table.shape) / pack
  const parts = weightParts(table, limits)
  if (typeof parts === 'string')
    return { unsupported: `embedding_backward: accumulator does not fit: ${parts}` }
  // Each subgroup repeats the scan of the ids, so one workgroup is one subgroup and holds several packs per lane.
  const lanes = subgroupSize > 1 ? subgroupSize : 64
  const packs = Math.min(8, Math.ceil(width / lanes))
  const across = Math.ceil(width / (lanes * packs))
  const { workgroups, gridX } = foldGrid(rows * across)
  return {
    launches: parts.map((part) => ({
      variant: 'embedding_backward',
      workgroups,
      ...withRowOfId(inputs, {
        modules: ['embedding_backward', `lib/pack_${pack}`],
        constants: {
          ROWS: rows,
          WIDTH: width,
          FIRST_ROW: part.first,
          PART_ROWS: part.rows,
          LANES: lanes,
          PACKS: packs,
          TILES_X: across,
          TILES: rows * across,
          GRID_X: gridX,
        },
        bindings: [
          { port: 'ids', access: 'read' },
          { port: 'dy', access: 'read' },
          { port: 'accumulator', access: 'read_write', ...part.range },
        ],
      }),
    })),
  }
}
