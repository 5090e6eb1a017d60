import { foldGrid, type KernelRule } from './rule.ts'

const WORKGROUP = 64

export const rope: KernelRule = ({ attrs, inputs }) => {
  const [rows, width] = inputs.x!.shape as [number, number]
  const half = inputs.table!.shape[1]! / 2
  const interleaved = attrs.layout === 'interleaved'
  const pack = !interleaved && half % 4 === 0 && attrs.head_dim % 4 === 0 ? 4 : 1
  const count = (rows * attrs.rotated_heads * half) / pack
  const { workgroups, gridX } = foldGrid(Math.ceil(count / WORKGROUP))
  return {
    launches: [
      {
        variant: `rope_${pack}`,
        modules: ['rope', `lib/pack_${pack}`],
        constants: {
          WIDTH: width / pack,
          HEAD: attrs.head_dim / pack,
          ROTATED: attrs.rotated_heads,
          HALF: half / pack,
          COUNT: count,
          INTERLEAVED: interleaved ? 1 : 0,
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
