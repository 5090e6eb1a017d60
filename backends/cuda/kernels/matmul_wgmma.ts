import type { OpCall } from '../../../src/ops/contract.ts'
import { rowCount } from '../../../src/tensor/type.ts'
import type { KernelChoice } from '../../backend.ts'
import { depthOfRange, formatNumbers, inRanges } from './matmul_epilogue.ts'
import { type CudaTraits, launch } from './rule.ts'

/** Rows of a tile of kernels-cuda/matmul_wgmma.sm_90a.cu, and elements along k that a stage has of each row. */
const TILE_ROWS = 128
const STAGE_DEPTH = 64
/** Shorter ranges of a reduction cost more in parts written and read than they gain. */
const RANGE_UNIT = 512

/**
 * Tiles of a cluster: columns of each of its blocks, and the cycles that a stage takes: of tensor cores for a block's
 * 256 columns, of L2 (32 KB at an assumed 51 bytes a cycle) for 128. Predicted, not measured; of equal ones the first
 * is taken.
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

/** How a product would run with a tile: rounds of pieces on as many clusters as there is room for. */
function planWith(
  tile: Tile,
  [rows, columns, depth]: readonly [number, number, number],
  multiprocessors: number,
): Plan {
  const room = Math.floor(multiprocessors / tile.blocks)
  const count = Math.ceil(rows / TILE_ROWS) * Math.ceil(columns / (tile.columns * tile.blocks))
  const range = depthOfRange(depth, room / count, RANGE_UNIT)
  const pieces = count * Math.ceil(depth / range)
  const stages = Math.ceil(Math.min(depth, range) / STAGE_DEPTH)
  const cycles = Math.ceil(pieces / room) * stages * tile.stageCycles
  return { tile, grid: Math.min(pieces, room) * tile.blocks, range, cycles }
}

/** The product on Hopper's tensor cores; undefined where operands or architecture do not allow it. */
export function matmulWgmma(call: OpCall, { arch, multiprocessors }: CudaTraits): KernelChoice | undefined {
  const { x, w } = call.inputs
  const rows = rowCount(x!.shape)
  const [columns, depth] = w!.shape as readonly [number, number]
  // Rows of a tensor map are multiples of 16 bytes.
  if (arch !== 'sm_90a' || x!.format === 'f32' || depth % 8 !== 0) return undefined
  const { tile, grid, range } = tiles
    .map((one) => planWith(one, [rows, columns, depth], multiprocessors))
    .reduce((best, plan) => (plan.cycles < best.cycles ? plan : best))
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
