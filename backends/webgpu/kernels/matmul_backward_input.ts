import { rowCount } from '../../../src/tensor/type.ts'
import { rowsModule, rowsOfTile, scalarMatmul, tileParameters } from './matmul.ts'
import { foldGrid, tunable } from './rule.ts'
import { weightModules, weightParts } from './weight_parts.ts'

/** Parts of a weight larger than a binding are summed one after the other into dx. */
export const matmul_backward_input = tunable(tileParameters, ({ op, inputs }, traits) => {
  const { limits, features, subgroupSize } = traits
  const w = inputs.w!
  const rows = rowCount(inputs.dy!.shape)
  const [depth, columns] = w.shape as readonly [number, number]
  const even = depth % 4 === 0 && columns % 4 === 0
  const parts = weightParts(w, limits, 4)
  if (typeof parts === 'string') return { unsupported: `matmul_backward_input: w does not fit: ${parts}` }
  const subgroups = features.has('subgroups')
  const lanes = subgroups ? subgroupSize : 64
  const variant = `matmul_backward_input_${w.format}`
  const tileRows = rowsOfTile(traits, op, variant, { rows, columns, depth })
  const across = Math.ceil(columns / 4 / lanes)
  const tiles = across * Math.ceil(rows / tileRows)
  const { workgroups, gridX } = foldGrid(tiles)
  return {
    launches: parts.map((part) => {
      const bindings = [
        { port: 'dy', access: 'read' },
        { port: 'w', access: 'read', ...part.range },
        { port: 'dx', access: part.first > 0 ? 'read_write' : 'write' },
      ] as const
      if (!even) {
        const plan = scalarMatmul({
          format: w.format,
          rows,
          columns,
          depth: part.rows,
          a: { row: depth, depth: 1, first: part.first },
          b: { column: 1, depth: columns },
          width: columns,
          firstColumn: 0,
          accumulate: part.first > 0,
        })
        return {
          ...plan,
          modules: [...plan.modules, 'lib/bias_none', 'lib/activate_none', 'lib/residual_none'],
          bindings,
        }
      }
      const weight = weightModules(`lib/weight_${w.format}`, w, part, bindings.length)
      return {
        variant,
        modules: ['matmul_backward_input', rowsModule(traits), ...weight.modules],
        constants: {
          ...weight.constants,
          ROWS: rows,
          ROW_WIDTH4: depth / 4,
          FIRST_DEPTH4: part.first / 4,
          DEPTH4: part.rows / 4,
          COLUMNS4: columns / 4,
          ACCUMULATE: String(part.first > 0),
          TILE_ROWS: tileRows,
          LANES: lanes,
          TILES_X: across,
          TILES: tiles,
          GRID_X: gridX,
        },
        workgroups,
        bindings,
      }
    }),
  }
})
