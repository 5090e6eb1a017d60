import type { OpCall } from '../../../src/ops/contract.ts'
import { lastDim, rowCount } from '../../../src/tensor/type.ts'
import type { KernelChoice } from '../../backend.ts'
import { transposedWeightGradient } from '../../transposed_weight_gradient.ts'
import { exchangesRows, rowsOfTile, scalarMatmul, tileParameters } from './matmul.ts'
import { foldGrid, type KernelRule, tunable, type WebGpuTraits } from './rule.ts'
import { weightParts } from './weight_parts.ts'

/** An accumulator larger than a binding takes a launch per part of its rows. */
export const matmul_backward_weight = tunable(tileParameters, ({ op, inputs }, traits) => {
  const { limits, features, subgroupSize } = traits
  const rows = rowCount(inputs.dy!.shape)
  const width = lastDim(inputs.dy!.shape)
  const columns = lastDim(inputs.x!.shape)
  const even = width % 4 === 0 && columns % 4 === 0
  const parts = weightParts(inputs.accumulator!, limits, 4)
  if (typeof parts === 'string')
    return { unsupported: `matmul_backward_weight: accumulator does not fit: ${parts}` }
  const subgroups = features.has('subgroups')
  const lanes = subgroups ? subgroupSize : 64
  const variant = 'matmul_backward_weight'
  return {
    launches: parts.map((part) => {
      const bindings = [
        { port: 'dy', access: 'read' },
        { port: 'x', access: 'read' },
        { port: 'accumulator', access: 'read_write', ...part.range },
      ] as const
      if (!even) {
        const plan = scalarMatmul({
          format: 'f32',
          rows: part.rows,
          columns,
          depth: rows,
          a: { row: 1, depth: width, first: part.first },
          b: { column: 1, depth: columns },
          width: columns,
          firstColumn: 0,
          accumulate: true,
        })
        return {
          ...plan,
          modules: [...plan.modules, 'lib/bias_none', 'lib/activate_none', 'lib/residual_none'],
          bindings,
        }
      }
      const shape = { rows: part.rows, columns, depth: rows }
      const exchange = exchangesRows(traits)
      const vectors = rowsOfTile(traits, op, variant, shape) / 4
      // Lanes that exchange vectors need a number that halves.
      const tileRows4 = exchange && vectors === 3 ? 4 : vectors
      const across = Math.ceil(columns / 4 / lanes)
      const tiles = across * Math.ceil(part.rows / 4 / tileRows4)
      const { workgroups, gridX } = foldGrid(tiles)
      return {
        variant,
        modules: [
          'matmul_backward_weight',
          exchange ? 'lib/columns_quad' : subgroups ? 'lib/columns_subgroup' : 'lib/columns_uniform',
        ],
        constants: {
          ROWS: rows,
          DY_WIDTH4: width / 4,
          X_WIDTH4: columns / 4,
          FIRST_COLUMN4: part.first / 4,
          COLUMNS4: part.rows / 4,
          TILE_ROWS4: tileRows4,
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

/** Of transposed operands: the product of both, then a launch that adds it. */
export const matmulBackwardWeight = (plain: KernelRule, choose: KernelRule): KernelRule =>
  Object.assign(
    (call: OpCall, traits: WebGpuTraits): KernelChoice =>
      call.attrs.transposed
        ? transposedWeightGradient(call, (part) => choose(part, traits))
        : plain(call, traits),
    plain,
  )
