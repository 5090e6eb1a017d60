import type { OpCall } from '../../../src/ops/contract.ts'
import type { FormatName } from '../../../src/tensor/format.ts'
import { elementCount, lastDim } from '../../../src/tensor/type.ts'
import type { KernelChoice, LaunchPlan } from '../../backend.ts'
import { type GroupedProduct, groupedProductOf, offsets, rowTiles, zeroLaunch } from './grouped_product.ts'
import { formatNumbers } from './matmul_epilogue.ts'
import { fp8Tiles } from './matmul_fp8.ts'
import { TILE_ROWS, type Tile, tensorMap } from './matmul_plan.ts'
import { BOX_BYTES, BOX_ROWS, BYTES_PER_CYCLE, type Major, wgmmaTiles } from './matmul_wgmma.ts'
import { type CudaTraits, launch } from './rule.ts'
import { selectVariant } from './variant.ts'

/** Bytes that a stage has of a row of an operand that lies along k. */
const STAGE_BYTES = 128

interface Way {
  readonly module: string
  readonly kernel: string
  readonly a: Major
  readonly b: Major
  /** Of tensor maps. */
  readonly format: number
  readonly tiles: readonly Tile[]
}

const elementBytes = (format: FormatName): number => (format === 'f32' ? 4 : 2)

/** How a call is multiplied; undefined where no kernel can. */
function wayOf(call: OpCall): Way | undefined {
  const { a, sizes, ...product } = groupedProductOf(call)
  const { format } = call.inputs[a]!
  // Rows of a tensor map are multiples of 16 bytes.
  if ((sizes.columns * elementBytes(product.format)) % 16 !== 0) return undefined
  if (format === 'e4m3_128') {
    const names = { module: 'matmul_grouped_fp8.sm_90a', kernel: 'matmul_grouped_fp8' }
    return { ...names, a: 'k', b: 'k', format: formatNumbers.e4m3!, tiles: fp8Tiles }
  }
  if (format !== 'f16' && format !== 'bf16') return undefined
  const kernel = `${call.op}_wgmma_${format}`
  const tiles = wgmmaTiles.filter(({ variant }) => variant === '2x256' || variant === '128')
  const in16 = { kernel, format: formatNumbers[format]!, tiles }
  if (call.op === 'matmul_grouped') return { module: 'matmul_grouped_wgmma.sm_90a', ...in16, a: 'k', b: 'k' }
  const module = 'matmul_grouped_backward_wgmma.sm_90a'
  // Stages of dx's depth, and boxes of dw's rows, are of one expert each.
  if (call.op === 'matmul_grouped_backward_input')
    return sizes.depth % 64 === 0 ? { module, ...in16, a: 'k', b: 'mn' } : undefined
  return sizes.rows % BOX_ROWS === 0 ? { module, ...in16, a: 'mn', b: 'mn' } : undefined
}

/**
 * A grouped product on Hopper's tensor cores, matmul_grouped or a gradient of it; undefined where operands or architecture
 * do not allow it, or tuning knows better.
 */
export function matmulGroupedWgmma(call: OpCall, traits: CudaTraits): KernelChoice | undefined {
  const way = traits.arch === 'sm_90a' ? wayOf(call) : undefined
  if (!way) return undefined
  const product = groupedProductOf(call)
  const variants = way.tiles.map((tile) => {
    const room = Math.floor(traits.multiprocessors / tile.blocks)
    return {
      name: tile.variant,
      cycles: cyclesOf(product, tile, room),
      choice: () => launches(call, way, tile, room),
    }
  })
  const { format } = call.inputs[product.a]!
  return selectVariant(traits, { op: call.op, formats: format, shape: product.sizes }, variants)
}

/** Tiles side by side that a cluster has at a time. */
const across = (tile: Tile, columns: number): number => Math.ceil(columns / (tile.columns * tile.blocks))

/**
 * Cycles, as if all experts had as many rows: for each tile the longer of multiplying and of what memory gives and takes
 * meanwhile, an expert's matrix once: for its tiles of rows together, or as sums that are read and written. Predicted, not
 * measured.
 */
function cyclesOf({ sizes, ofWeights }: GroupedProduct, tile: Tile, room: number): number {
  const { rows, columns, depth, experts } = sizes
  const down = Math.ceil((ofWeights ? rows : rows / experts) / TILE_ROWS)
  const stages = Math.ceil((ofWeights ? depth / experts : depth) / tile.stageDepth)
  const bytes = tile.columns * (ofWeights ? 2 * 4 * TILE_ROWS : (stages * STAGE_BYTES) / down)
  const rounds = Math.ceil((experts * down * across(tile, columns)) / room)
  return rounds * Math.max(stages * tile.stageCycles, bytes / BYTES_PER_CYCLE)
}

function launches(call: OpCall, way: Way, tile: Tile, room: number): KernelChoice {
  const { a, b, y, format, sizes, ofWeights, constants } = groupedProductOf(call)
  const { rows, columns, experts } = sizes
  const map = (port: string, major: Major, box: number) => {
    const { shape } = call.inputs[port]!
    const matrix = [elementCount(shape) / lastDim(shape), lastDim(shape)] as const
    const { stageDepth } = tile
    return tensorMap(port, way.format, matrix, [major === 'k' ? box : stageDepth, stageDepth])
  }
  const boxes = tensorMap(
    'y',
    formatNumbers[format]!,
    [ofWeights ? experts * rows : rows, columns],
    [BOX_ROWS, BOX_BYTES / elementBytes(format)],
  )
  const down = ofWeights ? experts * Math.ceil(rows / TILE_ROWS) : rowTiles(rows, experts, TILE_ROWS)
  const blocks = (port: string): LaunchPlan['bindings'][number] => ({
    port,
    as: `${port}_blocks`,
    access: 'read',
  })
  const main = launch(
    way.module,
    `${way.kernel}_${tile.variant}`,
    Math.min(down * across(tile, columns), room) * tile.blocks,
    [
      { port: a, access: 'read' },
      { port: b, access: 'read' },
      // Quants come first, a matrix of bytes; scales are read from the whole.
      ...(way.format === formatNumbers.e4m3 ? [blocks(a), blocks(b)] : []),
      offsets,
      y,
      // Threads store rows of boxes that reach into another expert's.
      ...(ofWeights ? [] : [{ ...y, as: 'y_rows' }]),
    ],
    {
      ...map(a, way.a, TILE_ROWS / tile.blocks),
      ...map(b, way.b, tile.columns),
      ...boxes,
      ...sizes,
      ...constants,
    },
  )
  return { launches: ofWeights ? [main] : [main, zeroLaunch(groupedProductOf(call))] }
}
