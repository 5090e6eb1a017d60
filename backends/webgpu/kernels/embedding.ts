import type { OpCall } from '../../../src/ops/contract.ts'
import { elementCount, lastDim } from '../../../src/tensor/type.ts'
import type { LaunchPlan } from '../../backend.ts'
import { foldGrid, type KernelRule } from './rule.ts'
import { weightModules, weightParts } from './weight_parts.ts'

const WORKGROUP = 64

type Parts = Pick<LaunchPlan, 'modules' | 'constants' | 'bindings'>

/** What a launch is made of, with the hook that turns ids into rows of the table. */
export function withRowOfId({ first }: OpCall['inputs'], { modules, constants, bindings }: Parts): Parts {
  if (!first) return { modules: [...modules, 'lib/row_of_id'], constants, bindings }
  return {
    modules: [...modules, 'lib/row_of_id_first'],
    constants: { ...constants, FIRST_BINDING: bindings.length },
    bindings: [...bindings, { port: 'first', access: 'read' }],
  }
}

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
        workgroups,
        ...withRowOfId(inputs, {
          modules: ['embedding', `lib/pack_${pack}`, `lib/load_pack_${pack}`, ...load.modules],
          constants: {
            ...load.constants,
            ROWS: rows,
            WIDTH: width,
            VOCABULARY: table.shape[0]!,
            FIRST_ROW: part.first,
            PART_ROWS: part.rows,
            GRID_X: gridX,
            WORKGROUP,
          },
          bindings: [
            { port: 'ids', access: 'read' },
            { port: 'table', access: 'read', ...part.range },
            { port: 'y', access: 'write' },
            ...(part.scales ? [{ port: 'table', access: 'read' as const, ...part.scales }] : []),
          ],
        }),
      }
    }),
  }
}
