import type { OpCall } from '../../../src/ops/contract.ts'
import { rowCount } from '../../../src/tensor/type.ts'
import type { KernelChoice } from '../../backend.ts'
import { depthOfRange, formatNumbers, inRanges } from './matmul_epilogue.ts'
import { type CudaTraits, launch } from './rule.ts'
import { selectVariant } from './variant.ts'

/** Rows of a tile of kernels-cuda/matmul_wgmma.sm_90a.cu, and elements along k that a stage has of each row. */
const TILE_ROWS = 128
const STAGE_DEPTH = 64
/** Ranges that a reduction may be cut into are multiples of this. */
const RANGE_UNIT = 512
/** Of memory, for each multiprocessor: 4.8 TB/s over 132 of them at 1.83 GHz. */
const BYTES_PER_CYCLE = 20

/**
 * Tiles of a cluster: columns of each of its blocks, and the cycles that a stage takes: of tensor cores for a block's
 * 256 columns, of L2 (32 KB at an assumed 51 bytes a cycle) for 128. Predicted, not measured.
 */
const tiles = [
  { variant: '2x256', blocks: 2, columns: 256, stageCycles: 1024 },
  { variant: '128', blocks: 1, columns: 128, stageCycles: 640 },
] as const

type Tile = (typeof tiles)[number]

interface Plan {
  readonly tile: Tile
  /** Blocks of the persistent grid. */
  readonly grid: number
  readonly range: number
  readonly cycles: number
}

type Shape = readonly [rows: number, columns: number, depth: number]

/**
 * How a product would run with a tile and ranges of a length: rounds of pieces on as many clusters as there is room for,
 * and where there are several ranges their sums written and read once more.
 */
function planWith(tile: Tile, range: number, [rows, columns, depth]: Shape, room: number): Plan {
  const ranges = Math.ceil(depth / range)
  const pieces = tilesOf(tile, rows, columns) * ranges
  const stages = Math.ceil(Math.min(depth, range) / STAGE_DEPTH)
  const sums = 4 * Math.min(rows, TILE_ROWS) * tile.columns
  const cycles = stages * tile.stageCycles + (ranges > 1 ? (2 * sums) / BYTES_PER_CYCLE : 0)
  return {
    tile,
    grid: Math.min(pieces, room) * tile.blocks,
    range,
    cycles: Math.ceil(pieces / room) * cycles,
  }
}

const tilesOf = (tile: Tile, rows: number, columns: number): number =>
  Math.ceil(rows / TILE_ROWS) * Math.ceil(columns / (tile.columns * tile.blocks))

/** A tile's better way: the reduction whole, or in as many ranges as leave no cluster idle. */
function planOf(tile: Tile, shape: Shape, multiprocessors: number): Plan {
  const [rows, columns, depth] = shape
  const room = Math.floor(multiprocessors / tile.blocks)
  const wanted = room / tilesOf(tile, rows, columns)
  const [whole, cut] = [1, wanted].map((count) =>
    planWith(tile, depthOfRange(depth, count, RANGE_UNIT), shape, room),
  ) as [Plan, Plan]
  return cut.cycles < whole.cycles ? cut : whole
}

/** The product on Hopper's tensor cores; undefined where operands or architecture do not allow it, or tuning knows better. */
export function matmulWgmma(call: OpCall, traits: CudaTraits): KernelChoice | undefined {
  const { x, w } = call.inputs
  const rows = rowCount(x!.shape)
  const [columns, depth] = w!.shape as readonly [number, number]
  // Rows of a tensor map are multiples of 16 bytes.
  if (traits.arch !== 'sm_90a' || x!.format === 'f32' || depth % 8 !== 0) return undefined
  const variants = tiles.map((tile) => {
    const plan = planOf(tile, [rows, columns, depth], traits.multiprocessors)
    return { name: tile.variant, cycles: plan.cycles, choice: () => launches(call, plan) }
  })
  return selectVariant(traits, { op: call.op, formats: x!.format, shape: { rows, columns, depth } }, variants)
}

function launches(call: OpCall, { tile, grid, range }: Plan): KernelChoice {
  const { x, w } = call.inputs
  const rows = rowCount(x!.shape)
  const [columns, depth] = w!.shape as readonly [number, number]
  const format = formatNumbers[x!.format]!
  const map = (name: string, height: number, boxRows: number) => ({
    [`${name}.format`]: format,
    [`${name}.rows`]: height,
    [`${name}.width`]: depth,
    [`${name}.box_rows`]: boxRows,
    [`${name}.box_width`]: STAGE_DEPTH,
  })
  return inRanges(call, range, (splits, { bindings, constants }) =>
    launch(
      'matmul_wgmma.sm_90a',
      `matmul_wgmma_${x!.format}_${tile.variant}`,
      grid,
      [{ port: 'x', access: 'read' }, { port: 'w', access: 'read' }, ...bindings],
      {
        ...map('x', rows, TILE_ROWS / tile.blocks),
        ...map('w', columns, tile.columns),
        rows,
        columns,
        depth,
        ...constants,
        splits,
        split_depth: range,
      },
    ),
  )
}
