import type { OpCall } from '../../../src/ops/contract.ts'
import { elementCount, lastDim } from '../../../src/tensor/type.ts'
import type { KernelChoice, LaunchPlan } from '../../backend.ts'
import { groupedProductOf, offsets, rowTiles, zeroLaunch } from './grouped_product.ts'
import { formatNumbers } from './matmul_epilogue.ts'
import { TILE_ROWS, type Tile, tensorMap } from './matmul_plan.ts'
import { BOX, BYTES_PER_CYCLE, STAGE_BYTES, tcgen05Ways, type Way } from './matmul_tcgen05.ts'
import { type CudaTraits, launch } from './rule.ts'
import { selectVariant } from './variant.ts'

/** Elements of a stage of 16 bits: one of dx is of one expert's rows of w. */
const STAGE_DEPTH = 64

/**
 * A grouped product on Blackwell's tensor cores, matmul_grouped or its gradient for x; undefined where operands or
 * architecture do not allow it, or tuning knows better.
 */
export function matmulGroupedTcgen05(call: OpCall, traits: CudaTraits): KernelChoice | undefined {
  const { a, sizes, ofWeights } = groupedProductOf(call)
  const { format } = call.inputs[a]!
  if (traits.arch !== 'sm_103a' || ofWeights || !['f16', 'bf16', 'e4m3_128'].includes(format))
    return undefined
  const way = tcgen05Ways[format]!
  const forward = call.op === 'matmul_grouped'
  if (sizes.depth % (forward ? way.depths : STAGE_DEPTH) !== 0) return undefined
  if (!forward && sizes.columns % way.depths !== 0) return undefined
  const variants = way.tiles.map((tile) => ({
    name: tile.variant,
    cycles: cyclesOf(sizes, tile, traits),
    choice: () => launches(call, way, tile, traits),
  }))
  return selectVariant(traits, { op: call.op, formats: format, shape: sizes }, variants)
}

const rowsOf = (tile: Tile): number => tile.rows ?? TILE_ROWS

/** Tiles side by side. */
const across = (tile: Tile, columns: number): number => Math.ceil(columns / (tile.columns * tile.blocks))

/**
 * Cycles, as if all experts had as many rows: for each tile the longer of multiplying and of what memory gives meanwhile,
 * an expert's weights once for its tiles together. Predicted, not measured.
 */
function cyclesOf(
  { rows, columns, depth, experts }: ReturnType<typeof groupedProductOf>['sizes'],
  tile: Tile,
  { multiprocessors }: CudaTraits,
): number {
  const down = Math.ceil(rows / experts / rowsOf(tile))
  const stages = Math.ceil(depth / tile.stageDepth)
  const rounds = Math.ceil(
    (experts * down * across(tile, columns)) / Math.floor(multiprocessors / tile.blocks),
  )
  const weights = (stages * tile.columns * STAGE_BYTES) / down
  return rounds * Math.max(stages * tile.stageCycles, weights / BYTES_PER_CYCLE)
}

function launches(call: OpCall, way: Way, tile: Tile, { multiprocessors }: CudaTraits): KernelChoice {
  const product = groupedProductOf(call)
  const { a, b, y, sizes, constants } = product
  const { rows, columns, experts } = sizes
  const inBlocks = way.map === 'e4m3'
  const [module, kernel] = inBlocks
    ? ['matmul_grouped_tcgen05_fp8.sm_103a', 'matmul_grouped_tcgen05_fp8']
    : ['matmul_grouped_tcgen05.sm_103a', `${call.op}_tcgen05_${way.map}`]
  const map = (port: string, box: readonly [number, number]) => {
    const { shape } = call.inputs[port]!
    return tensorMap(
      port,
      formatNumbers[way.map]!,
      [elementCount(shape) / lastDim(shape), lastDim(shape)],
      box,
    )
  }
  const pieces = rowTiles(rows, experts, rowsOf(tile)) * across(tile, columns)
  const blocks = (port: string): LaunchPlan['bindings'][number] => ({
    port,
    as: `${port}_blocks`,
    access: 'read',
  })
  const main = launch(
    module,
    `${kernel}_${tile.variant}`,
    Math.min(pieces, Math.floor(multiprocessors / tile.blocks)) * tile.blocks,
    [
      { port: a, access: 'read' },
      { port: b, access: 'read' },
      ...(inBlocks ? [blocks(a), blocks(b)] : []),
      offsets,
      y,
    ],
    {
      ...map(a, [TILE_ROWS, tile.stageDepth]),
      // Rows of w lie along k, but for dx along its columns.
      ...map(b, call.op === 'matmul_grouped' ? [tile.columns, tile.stageDepth] : [BOX, BOX]),
      ...sizes,
      // In bytes of a row.
      depth: (sizes.depth * STAGE_BYTES) / tile.stageDepth,
      ...constants,
    },
  )
  return { launches: [main, zeroLaunch(product)] }
}
