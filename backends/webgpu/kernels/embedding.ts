import { elementCount, lastDim } from '../../../src/tensor/type.ts'
import { foldGrid, type KernelRule } from './rule.ts'
import { weightModules, weightParts } from './weight_parts.ts'

const WORKGROUP = 64

/** A table larger than a binding takes a launch per part of its rows, each writing the rows of y it holds. */
export const embedding: KernelRule = ({ inputs }, { limits }) => {
  const table = inputs.table!
  const rows = elementCount(inputs.ids!.shape)
  const pack = lastDim(table.shape) % 4 === 0 ? 4 : 1
  const width = lastDim(table.shape) / pack
  const parts = weightParts(table, limits)
  if (typeof parts === 'string') return { unsupported: `embedding: table does not fit: ${parts}` }
  const { workgroups, gridX } = foldGrid(Math.ceil((rows * width) / WORKGROUP))
  return {
    launches: parts.map((part) => {
      const load =
        pack === 1
          ? { modules: [`lib/vector_${table.format}`], constants: {} }
          : weightModules(`lib/weight_${table.format}`, table, part, 3)
      return {
        variant: `embedding_${table.format}`,
        modules: ['embedding', `lib/pack_${pack}`, `lib/load_pack_${pack}`, ...load.modules],
        constants: {
          ...load.constants,
          ROWS: rows,
          WIDTH: width,
          VOCABULARY: table.shape[0]!,
          FIRST_ID: part.first,
          PART_IDS: part.rows,
          GRID_X: gridX,
          WORKGROUP,
        },
        workgroups,
        bindings: [
          { port: 'ids', access: 'read' },
          { port: 'table', access: 'read', ...part.range },
          { port: 'y', access: 'write' },
          ...(part.scales ? [{ port: 'table', access: 'read' as const, ...part.scales }] : []),
        ],
      }
    }),
  }
}
