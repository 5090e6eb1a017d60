import type { OpCall } from '../../../src/ops/contract.ts'
import { rowCount } from '../../../src/tensor/type.ts'
import type { KernelChoice } from '../../backend.ts'
import { formatNumbers, inRanges } from './matmul_epilogue.ts'
import { type Plan, planOf, TILE_ROWS, type Tile, tensorMap } from './matmul_plan.ts'
import { type CudaTraits, launch } from './rule.ts'
import { selectVariant } from './variant.ts'

/** Bytes along k that a stage of kernels-cuda/matmul_tcgen05.sm_103a.cu has of each row. */
const STAGE_BYTES = 128
/** 8 TB/s over 148 multiprocessors at 1.9 GHz. */
const BYTES_PER_CYCLE = 28

/**
 * How a format of x and w is multiplied. Cycles of a stage are those of L2 at an assumed 64 bytes a cycle, which take
 * longer than tensor cores (512 for 256 columns in 16 bits). Predicted, not measured.
 */
const sixteenBits = {
  map: { elementBytes: 2 },
  tiles: [
    { variant: '256', blocks: 1, columns: 256, stageDepth: 64, stageCycles: 768 },
    { variant: '128', blocks: 1, columns: 128, stageDepth: 64, stageCycles: 512 },
  ],
} as const
const formats: Readonly<Record<string, { map: { elementBytes: number }; tiles: readonly Tile[] }>> = {
  bf16: sixteenBits,
  f16: sixteenBits,
}

/** The product on Blackwell's tensor cores; undefined where operands or architecture do not allow it, or tuning knows better. */
export function matmulTcgen05(call: OpCall, traits: CudaTraits): KernelChoice | undefined {
  const { x, w } = call.inputs
  const rows = rowCount(x!.shape)
  const [columns, depth] = w!.shape as readonly [number, number]
  const format = formats[x!.format]
  // Rows of a tensor map are multiples of 16 bytes.
  if (traits.arch !== 'sm_103a' || !format || w!.format !== x!.format) return undefined
  if ((depth * format.map.elementBytes) % 16 !== 0) return undefined
  const variants = format.tiles.map((tile) => {
    const plan = planOf(tile, [rows, columns, depth], {
      multiprocessors: traits.multiprocessors,
      bytesPerCycle: BYTES_PER_CYCLE,
    })
    return { name: tile.variant, cycles: plan.cycles, choice: () => launches(call, plan) }
  })
  return selectVariant(traits, { op: call.op, formats: x!.format, shape: { rows, columns, depth } }, variants)
}

function launches(call: OpCall, { tile, grid, range }: Plan): KernelChoice {
  const { x, w } = call.inputs
  const rows = rowCount(x!.shape)
  const [columns, depth] = w!.shape as readonly [number, number]
  const number = formatNumbers[x!.format]!
  const rowBytes = STAGE_BYTES / tile.stageDepth
  return inRanges(call, range, (splits, { bindings, constants }) =>
    launch(
      'matmul_tcgen05.sm_103a',
      `matmul_tcgen05_${x!.format}_${tile.variant}`,
      grid,
      [{ port: 'x', access: 'read' }, { port: 'w', access: 'read' }, ...bindings],
      {
        ...tensorMap('x', number, [rows, depth], [TILE_ROWS, tile.stageDepth]),
        ...tensorMap('w', number, [columns, depth], [tile.columns, tile.stageDepth]),
        rows,
        columns,
        depth: depth * rowBytes,
        ...constants,
        splits,
        split_depth: range * rowBytes,
      },
    ),
  )
}
