import type { LaunchPlan } from '../../backend.ts'
import { depthOfRange } from './matmul_epilogue.ts'

/** Rows of a tile of y: kernels-cuda/lib/pieces.h. */
export const TILE_ROWS = 128
/** Ranges that a reduction may be cut into are multiples of this, and of every kernel's stages. */
const RANGE_UNIT = 512

/** A way of a persistent matmul to run: tiles of a cluster's blocks, which are neighbours in columns. */
export interface Tile {
  readonly variant: string
  readonly blocks: number
  /** Of all blocks, where these are not TILE_ROWS: of a pair that multiplies together, of which each has half. */
  readonly rows?: number
  /** Of each block; of a pair, those whose rows of the right operand it brings. */
  readonly columns: number
  /** Elements along k that a stage has of each row. */
  readonly stageDepth: number
  /** Predicted, not measured. */
  readonly stageCycles: number
}

export interface Plan<T extends Tile = Tile> {
  readonly tile: T
  /** Blocks of the persistent grid. */
  readonly grid: number
  /** Length of the ranges that the reduction is cut into. */
  readonly range: number
  readonly cycles: number
}

export type Shape = readonly [rows: number, columns: number, depth: number]

export interface Machine {
  readonly multiprocessors: number
  /** Of memory, for each multiprocessor. */
  readonly bytesPerCycle: number
}

/**
 * How a product would run with a tile and ranges of a length: rounds of pieces on as many clusters as there is room for,
 * and where there are several ranges their sums written and read once more.
 */
function planWith<T extends Tile>(
  tile: T,
  range: number,
  shape: Shape,
  { multiprocessors, bytesPerCycle }: Machine,
) {
  const [rows, , depth] = shape
  const { rows: tileRows = TILE_ROWS } = tile
  const room = Math.floor(multiprocessors / tile.blocks)
  const ranges = Math.ceil(depth / range)
  const pieces = tilesOf(tile, shape) * ranges
  const stages = Math.ceil(Math.min(depth, range) / tile.stageDepth)
  const sums = 4 * Math.min(rows, tileRows) * tile.columns
  const cycles = stages * tile.stageCycles + (ranges > 1 ? (2 * sums) / bytesPerCycle : 0)
  return {
    tile,
    grid: Math.min(pieces, room) * tile.blocks,
    range,
    cycles: Math.ceil(pieces / room) * cycles,
  }
}

const tilesOf = (tile: Tile, [rows, columns]: Shape): number =>
  Math.ceil(rows / (tile.rows ?? TILE_ROWS)) * Math.ceil(columns / (tile.columns * tile.blocks))

/** A tile's better way: the reduction whole, or in as many ranges as leave no cluster idle. */
export function planOf<T extends Tile>(tile: T, shape: Shape, machine: Machine): Plan<T> {
  const wanted = Math.floor(machine.multiprocessors / tile.blocks) / tilesOf(tile, shape)
  const [whole, cut] = [1, wanted].map((count) =>
    planWith(tile, depthOfRange(shape[2], count, RANGE_UNIT), shape, machine),
  ) as [Plan<T>, Plan<T>]
  return cut.cycles < whole.cycles ? cut : whole
}

/** Constants of a tensor map parameter: a matrix of a numbered format, and its box. */
export const tensorMap = (
  name: string,
  format: number,
  [rows, width]: readonly [rows: number, width: number],
  [boxRows, boxWidth]: readonly [rows: number, width: number],
): LaunchPlan['constants'] => ({
  [`${name}.format`]: format,
  [`${name}.rows`]: rows,
  [`${name}.width`]: width,
  [`${name}.box_rows`]: boxRows,
  [`${name}.box_width`]: boxWidth,
})
