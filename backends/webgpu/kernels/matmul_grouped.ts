import { tensorType } from '../../../src/tensor/type.ts'
import { foldGrid, type KernelRule } from './rule.ts'
import { weightModules, weightParts } from './weight_parts.ts'

const WORKGROUP = 64

/** Weights larger than a binding take a launch per part of their rows, each writing what these give. */
export const matmul_grouped: KernelRule = ({ inputs }, { limits }) => {
  const [rows, depth] = inputs.x!.shape as readonly [number, number]
  const [experts, columns] = inputs.w!.shape as readonly [number, number, number]
  const w = tensorType(inputs.w!.format, experts * columns, depth)
  const parts = weightParts(w, limits)
  if (typeof parts === 'string') return { unsupported: `matmul_grouped: w does not fit: ${parts}` }
  const { workgroups, gridX } = foldGrid(Math.ceil((rows * columns) / WORKGROUP))
  return {
    launches: parts.map((part) => {
      const weight = weightModules(`lib/weight_${w.format}`, w, part, 4)
      return {
        variant: `matmul_grouped_${w.format}`,
        modules: ['matmul_grouped', ...weight.modules],
        constants: {
          ...weight.constants,
          ROWS: rows,
          COLUMNS: columns,
          DEPTH4: depth / 4,
          EXPERTS: experts,
          FIRST_ROW: part.first,
          PART_ROWS: part.rows,
          GRID_X: gridX,
          WORKGROUP,
        },
        workgroups,
        bindings: [
          { port: 'x', access: 'read' },
          { port: 'w', access: 'read', ...part.range },
          { port: 'offsets', access: 'read' },
          { port: 'y', access: 'write' },
        ],
      }
    }),
  }
}
