import { foldGrid, type KernelRule } from './rule.ts'

const WORKGROUP = 64

export const rope: KernelRule = ({ attrs, inputs }) => {
  const [rows, width] = inputs.x!.shape as [number, number]
  const half = inputs.table!.shape[1]! / 2
  const pairs = rows * attrs.rotated_heads * half
  const { workgroups, gridX } = foldGrid(Math.ceil(pairs / WORKGROUP))
  return {
    launches: [
      {
        variant: 'rope',
        modules: ['rope'],
        constants: {
          WIDTH: width,
          HEAD_DIM: attrs.head_dim,
          ROTATED: attrs.rotated_heads,
          HALF: half,
          PAIRS: pairs,
          INTERLEAVED: attrs.layout === 'interleaved' ? 1 : 0,
          INVERSE: attrs.inverse ? 1 : 0,
          GRID_X: gridX,
          WORKGROUP,
        },
        workgroups,
        bindings: [
          { port: 'x', access: 'read_write' },
          { port: 'positions', access: 'read' },
          { port: 'table', access: 'read' },
        ],
      },
    ],
  }
}
