import { lastDim, rowCount } from '../../../src/tensor/type.ts'
import { foldGrid, type KernelRule } from './rule.ts'

export const rms_norm: KernelRule = ({ attrs, inputs }) => {
  const rows = rowCount(inputs.x!.shape)
  const { workgroups, gridX } = foldGrid(rows)
  return {
    launches: [
      {
        variant: 'rms_norm',
        modules: ['rms_norm', `lib/vector_${inputs.weight!.format}`],
        constants: { WIDTH: lastDim(inputs.x!.shape), ROWS: rows, EPS: attrs.eps, GRID_X: gridX },
        workgroups,
        bindings: [
          { port: 'x', access: 'read' },
          { port: 'weight', access: 'read' },
          { port: 'y', access: 'write' },
        ],
      },
    ],
  }
}
