import type { OpCall } from '../../../src/ops/contract.ts'
import { lastDim, rowCount } from '../../../src/tensor/type.ts'
import type { LaunchPlan } from '../../backend.ts'
import { matmulThenGate } from '../../matmul_gated.ts'
import { decide } from './parameter.ts'
import { foldGrid, isCpu, type KernelRule, tunable, type WebGpuTraits } from './rule.ts'
import { type WeightPart, weightModules, weightParts } from './weight_parts.ts'

/** Weights (of four) in one 16-byte load, of formats that have a module for that. */
const chunks: Partial<Record<string, number>> = { f16: 2, bf16: 2, q8_0: 4, q4_0: 8 }
const WORKGROUP = 64

/** The parameter of all products in register tiles. */
export const tileParameters = {
  tile_rows: { doc: 'rows of a register tile, where there are as many', values: [4, 8, 16] },
}

/**
 * Rows of a register tile for a product of `rows` by `depth` with `depth` by `columns`. Many are mostly fastest but take
 * software drivers long to compile, which little work never earns back. Without subgroups each lane loads all rows of
 * its tile, so half of them fill the registers.
 */
export function rowsOfTile(
  traits: WebGpuTraits,
  op: string,
  kernel: string,
  shape: { readonly rows: number; readonly columns: number; readonly depth: number },
): number {
  const most = traits.features.has('subgroups') ? 16 : 8
  const little = 2 * shape.rows * shape.columns * shape.depth < 2 ** 22
  const { tile_rows } = decide(traits, {
    op,
    kernel,
    shape,
    options: {
      tile_rows: {
        values: tileParameters.tile_rows.values.filter((n) => n <= most),
        heuristic: little ? most / 2 : most,
      },
    },
  })
  if (shape.rows >= tile_rows) return tile_rows
  // Lanes that exchange rows need all of a quad, or one pair.
  return exchangesRows(traits) && shape.rows > 2 ? Math.ceil(shape.rows / 4) * 4 : shape.rows
}

/** Do the lanes of a register tile exchange what they hold? Where a subgroup is a quad, that takes one step. */
export const exchangesRows = ({ features, subgroupSize }: WebGpuTraits): boolean =>
  features.has('subgroups') && subgroupSize === 4

/** Module by which the lanes of a register tile come by its rows. */
export function rowsModule(traits: WebGpuTraits): string {
  if (exchangesRows(traits)) return 'lib/rows_quad'
  return traits.features.has('subgroups') ? 'lib/rows_subgroup' : 'lib/rows_uniform'
}

const parameters = {
  ...tileParameters,
  tile_columns: {
    doc: 'outputs of a workgroup (matmul_vector) or a lane (matmul_column)',
    values: [1, 2, 4, 8],
  },
}

type Part = Omit<LaunchPlan, 'bindings'>

/**
 * One row: matmul_vector, on CPU drivers matmul_column. More: matmul_tile. Rows that are not a multiple of four elements: matmul_scalar.
 * A weight larger than a binding takes a launch per part of its rows, each writing its columns of y.
 */
export const matmul = tunable(parameters, (call, traits) => {
  const parts = weightParts(call.inputs.w!, traits.limits)
  if (typeof parts === 'string') return { unsupported: `matmul: w does not fit: ${parts}` }
  const depth = lastDim(call.inputs.x!.shape)
  const choose = depth % 4 !== 0 ? scalar : rowCount(call.inputs.x!.shape) === 1 ? vector : tile
  return { launches: parts.map((part) => launchOf(call, traits, part, choose)) }
})

type Plan = (call: OpCall, traits: WebGpuTraits, part: WeightPart, binding: number) => Part

/** A kernel's launch for a part of w, with what follows its sums. */
function launchOf(call: OpCall, traits: WebGpuTraits, part: WeightPart, choose: Plan): LaunchPlan {
  const { modules, constants, bindings } = epilogue(call, part)
  const plan = choose(call, traits, part, bindings.length)
  return {
    ...plan,
    modules: [...plan.modules, ...modules],
    constants: { ...plan.constants, ...constants },
    bindings: part.scales ? [...bindings, { port: 'w', access: 'read', ...part.scales }] : bindings,
  }
}

/** One launch for one row; else matmul, then its gate. */
export const matmulGated = (choose: KernelRule): KernelRule =>
  tunable({ tile_columns: parameters.tile_columns }, (call, traits) => {
    const { x, w } = call.inputs
    const parts = weightParts(w!, traits.limits)
    const fits = rowCount(x!.shape) === 1 && lastDim(x!.shape) % 4 === 0
    if (!fits || typeof parts === 'string' || parts.length > 1)
      return matmulThenGate(call, (part) => choose(part, traits))
    return { launches: [launchOf(call, traits, parts[0]!, vector)] }
  })

/** Bindings of the call (without split scales), and the hooks after the sum. */
function epilogue({ attrs, inputs }: OpCall, part: WeightPart): Omit<LaunchPlan, 'variant' | 'workgroups'> {
  const bindings: LaunchPlan['bindings'][number][] = [
    { port: 'x', access: 'read' },
    { port: 'w', access: 'read', ...part.range },
    { port: 'y', access: 'write' },
  ]
  const constants: Record<string, number> = {}
  const modules = [`lib/bias_${inputs.bias?.format ?? 'none'}`, `lib/activate_${attrs.activation}`]
  if (attrs.activation !== 'none') modules.push('lib/activation')
  modules.push(inputs.residual ? 'lib/residual_f32' : 'lib/residual_none')
  if (inputs.bias) constants.BIAS_BINDING = bindings.push({ port: 'bias', access: 'read' }) - 1
  if (inputs.residual) constants.RESIDUAL_BINDING = bindings.push({ port: 'residual', access: 'read' }) - 1
  return { modules, constants, bindings }
}

/** Lanes that walk along k and join their sums; on CPU drivers lanes that have outputs of their own. */
function vector(
  { op, inputs, outputs }: OpCall,
  traits: WebGpuTraits,
  part: WeightPart,
  binding: number,
): Part {
  const { features, subgroupSize } = traits
  const { format, shape } = inputs.w!
  const onCpu = isCpu(traits)
  const kernel = onCpu ? 'matmul_column' : 'matmul_vector'
  const lanes = onCpu || features.has('subgroups') ? subgroupSize : WORKGROUP
  const depth4 = shape[1]! / 4
  // Wide chunks, where lanes that walk together have them for at least half of their number.
  const wide = chunks[format] ?? 1
  const chunk = depth4 % wide === 0 && (onCpu || depth4 / wide >= lanes / 2) ? wide : 1
  const weight = weightModules(
    chunk > 1 ? `lib/chunk_${format}` : `lib/weight_${format}`,
    inputs.w!,
    part,
    binding,
  )
  const columns = Math.min(part.rows, lastDim(outputs.y!.shape))
  const { tile_columns } = decide(traits, {
    op,
    kernel: `${kernel}_${format}`,
    shape: { columns: part.rows, depth: shape[1]! },
    options: {
      tile_columns: onCpu
        ? {
            // A lane has both sums of a gated column.
            values: parameters.tile_columns.values.filter((n) => n > 1 || columns === part.rows),
            heuristic: part.rows >= 1024 ? 4 : 2,
          }
        : { values: [4, 8], heuristic: part.rows >= 1024 ? 8 : 4 },
    },
  })
  const { workgroups, gridX } = foldGrid(Math.ceil(part.rows / (onCpu ? tile_columns * lanes : tile_columns)))
  const join = features.has('subgroups') ? 'lib/reduce_subgroup' : 'lib/reduce_tree'
  return {
    variant: `${kernel}_${format}`,
    modules: [
      kernel,
      'lib/pack_1',
      ...weight.modules,
      ...(chunk > 1 ? [] : ['lib/chunk_4']),
      ...(onCpu ? [] : [join]),
    ],
    constants: {
      ...weight.constants,
      ROW_CHUNKS: depth4 / chunk,
      X_WIDTH4: depth4,
      COLUMNS: columns,
      FIRST_COLUMN: part.first,
      UPS: part.rows - columns,
      TILE_COLUMNS: tile_columns,
      WORKGROUP: lanes,
      GRID_X: gridX,
    },
    workgroups,
  }
}

function tile(call: OpCall, traits: WebGpuTraits, part: WeightPart, binding: number): Part {
  const { features, subgroupSize } = traits
  const { format, shape } = call.inputs.w!
  const rows = rowCount(call.inputs.x!.shape)
  const subgroups = features.has('subgroups')
  const lanes = subgroups ? subgroupSize : WORKGROUP
  const weight = weightModules(`lib/weight_${format}`, call.inputs.w!, part, binding)
  const variant = `matmul_tile_${format}`
  const sizes = { rows, columns: part.rows, depth: shape[1]! }
  const tileRows = rowsOfTile(traits, call.op, variant, sizes)
  const packed = part.rows % 4 === 0 && part.first % 4 === 0 && shape[0]! % 4 === 0
  const across = Math.ceil(part.rows / (lanes * 4))
  const tiles = across * Math.ceil(rows / tileRows)
  const { workgroups, gridX } = foldGrid(tiles)
  return {
    variant,
    modules: [
      'matmul_tile',
      rowsModule(traits),
      packed ? 'lib/tile_columns_packed' : 'lib/tile_columns_single',
      packed ? 'lib/pack_4' : 'lib/pack_1',
      ...weight.modules,
    ],
    constants: {
      ...weight.constants,
      ROWS: rows,
      ROW_WIDTH4: shape[1]! / 4,
      COLUMNS: part.rows,
      Y_WIDTH: shape[0]!,
      FIRST_COLUMN: part.first,
      TILE_ROWS: tileRows,
      LANES: lanes,
      TILES_X: across,
      TILES: tiles,
      GRID_X: gridX,
      EPILOGUE: String(call.inputs.residual !== undefined || call.attrs.activation !== 'none'),
    },
    workgroups,
  }
}

function scalar({ inputs }: OpCall, _traits: WebGpuTraits, part: WeightPart): Part {
  const [width, depth] = inputs.w!.shape as readonly [number, number]
  return scalarMatmul({
    format: inputs.w!.format,
    rows: rowCount(inputs.x!.shape),
    columns: part.rows,
    depth,
    a: { row: depth, depth: 1, first: 0 },
    b: { column: depth, depth: 1 },
    width,
    firstColumn: part.first,
    accumulate: false,
  })
}

/** matmul_scalar for any strides, in elements; the epilogue's modules are added by the caller. */
export function scalarMatmul(of: {
  readonly format: string
  readonly rows: number
  readonly columns: number
  readonly depth: number
  readonly a: { readonly row: number; readonly depth: number; readonly first: number }
  readonly b: { readonly column: number; readonly depth: number }
  readonly width: number
  readonly firstColumn: number
  readonly accumulate: boolean
}): Part {
  const tileRows = Math.min(of.rows, 4)
  const across = Math.ceil(of.columns / WORKGROUP)
  const tiles = across * Math.ceil(of.rows / tileRows)
  const { workgroups, gridX } = foldGrid(tiles)
  return {
    variant: 'matmul_scalar',
    modules: ['matmul_scalar', 'lib/pack_1', `lib/vector_${of.format}`],
    constants: {
      ROWS: of.rows,
      COLUMNS: of.columns,
      DEPTH: of.depth,
      A_ROW: of.a.row,
      A_DEPTH: of.a.depth,
      A_FIRST: of.a.first,
      B_COLUMN: of.b.column,
      B_DEPTH: of.b.depth,
      Y_WIDTH: of.width,
      FIRST_COLUMN: of.firstColumn,
      ACCUMULATE: String(of.accumulate),
      TILE_ROWS: tileRows,
      TILES_X: across,
      TILES: tiles,
      GRID_X: gridX,
    },
    workgroups,
  }
}
