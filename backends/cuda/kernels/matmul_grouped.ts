import type { OpCall } from '../../../src/ops/contract.ts'
import type { KernelChoice, LaunchPlan } from '../../backend.ts'
import { formatNumbers } from './matmul_epilogue.ts'
import { TILE_ROWS, tensorMap } from './matmul_plan.ts'
import { type WgmmaTile, wgmmaTiles } from './matmul_wgmma.ts'
import { type CudaTraits, type KernelRule, launch } from './rule.ts'
import { selectVariant } from './variant.ts'

/** Rows and columns of a tile of kernels-cuda/lib/mma_tile.h. */
const MMA_TILE = 64
/** Tiles of matmul_wgmma that experts' rows are multiplied in. */
const tiles = wgmmaTiles.filter(({ variant }) => variant === '2x256' || variant === '128')
/** Rows of a block of matmul_grouped_zero. */
const ZERO_ROWS = 64

const offsets: LaunchPlan['bindings'][number] = { port: 'offsets', access: 'read' }
const y: LaunchPlan['bindings'][number] = { port: 'y', access: 'write' }

/** Sizes of a call, as kernels are told them. */
function sizesOf({ inputs, outputs }: OpCall) {
  const [rows, depth] = inputs.x!.shape as readonly [number, number]
  const [experts, columns] = inputs.w!.shape as readonly [number, number, number]
  return { rows, columns, depth, experts, output_format: formatNumbers[outputs.y!.format]! }
}

/** Tiles that `rows` may be cut into by that many groups, each of which may begin one. */
const rowTiles = (rows: number, groups: number, tile: number): number =>
  Math.floor(rows / tile) + Math.min(rows, groups)

/** Tiles of lib/mma_tile.h, or those of matmul_wgmma where the architecture has them. */
export const matmul_grouped: KernelRule = (call, traits) => {
  const exact = grouped(call, traits)
  if (exact) return exact
  const { inputs } = call
  const sizes = sizesOf(call)
  const formats = `${inputs.w!.format}${inputs.x!.format === 'f32' ? '' : '_x16'}`
  // Rows before the first expert and behind the last are groups too.
  const blocks = rowTiles(sizes.rows, sizes.experts + 2, MMA_TILE) * Math.ceil(sizes.columns / MMA_TILE)
  const bindings: LaunchPlan['bindings'] = [
    { port: 'x', access: 'read' },
    offsets,
    { port: 'w', access: 'read' },
    y,
  ]
  return { launches: [launch('matmul_grouped', `matmul_grouped_${formats}`, blocks, bindings, sizes)] }
}

function grouped(call: OpCall, traits: CudaTraits): KernelChoice | undefined {
  const { format } = call.inputs.x!
  if (traits.arch !== 'sm_90a' || !['f16', 'bf16'].includes(format)) return undefined
  const { rows, columns, depth, experts } = sizesOf(call)
  const variants = tiles.map((tile) => {
    const room = Math.floor(traits.multiprocessors / tile.blocks)
    // As if all experts had as many rows.
    const pieces =
      experts * Math.ceil(rows / experts / TILE_ROWS) * Math.ceil(columns / (tile.columns * tile.blocks))
    const cycles = Math.ceil(pieces / room) * Math.ceil(depth / tile.stageDepth) * tile.stageCycles
    return { name: tile.variant, cycles, choice: () => launches(call, tile, room) }
  })
  const selection = { op: call.op, formats: format, shape: { rows, columns, depth, experts } }
  return selectVariant(traits, selection, variants)
}

function launches(call: OpCall, tile: WgmmaTile, room: number): KernelChoice {
  const { format } = call.inputs.x!
  const sizes = sizesOf(call)
  const { rows, columns, depth, experts } = sizes
  const pieces = rowTiles(rows, experts, TILE_ROWS) * Math.ceil(columns / (tile.columns * tile.blocks))
  const map = (port: string, height: number, box: number) =>
    tensorMap(port, formatNumbers[format]!, [height, depth], [box, tile.stageDepth])
  const { depth: _, ...ofZero } = sizes
  return {
    launches: [
      launch(
        'matmul_grouped_wgmma.sm_90a',
        `matmul_grouped_wgmma_${format}_${tile.variant}`,
        Math.min(pieces, room) * tile.blocks,
        [{ port: 'x', access: 'read' }, { port: 'w', access: 'read' }, offsets, y],
        {
          ...map('x', rows, TILE_ROWS / tile.blocks),
          ...map('w', experts * columns, tile.columns),
          ...sizes,
        },
      ),
      launch(
        'matmul_grouped_wgmma.sm_90a',
        'matmul_grouped_zero',
        Math.ceil(rows / ZERO_ROWS),
        [offsets, y],
        ofZero,
      ),
    ],
  }
}
