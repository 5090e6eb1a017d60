import { packOf, rowReduction } from './row.ts'
import { foldGrid, type KernelRule } from './rule.ts'

export const sample: KernelRule = ({ inputs }, traits) => {
  const [rows, width] = inputs.logits!.shape as [number, number]
  const { workgroups, gridX } = foldGrid(rows)
  const { module, workgroup } = rowReduction(traits)
  return {
    launches: [
      {
        variant: 'sample',
        modules: ['sample', `lib/pack_${packOf(width)}`, module, 'lib/philox'],
        constants: {
          PACKS: width / packOf(width),
          ROWS: rows,
          HISTORY: inputs.history!.shape[1]!,
          GRID_X: gridX,
          WORKGROUP: workgroup,
        },
        workgroups,
        bindings: [
          { port: 'logits', access: 'read' },
          { port: 'options', access: 'read' },
          { port: 'key', access: 'read' },
          { port: 'history', access: 'read' },
          { port: 'length', access: 'read' },
          { port: 'token', access: 'write' },
          { port: 'scores', access: 'read_write' },
        ],
      },
    ],
    scratch: { scores: inputs.logits! },
  }
}

export const random_bits: KernelRule = ({ attrs }) => {
  const { workgroups, gridX } = foldGrid(Math.ceil(attrs.count / 4 / 64))
  return {
    launches: [
      {
        variant: 'random_bits',
        modules: ['random_bits', 'lib/philox'],
        constants: { COUNT: attrs.count, GRID_X: gridX },
        workgroups,
        bindings: [
          { port: 'key', access: 'read' },
          { port: 'bits', access: 'write' },
        ],
      },
    ],
  }
}
