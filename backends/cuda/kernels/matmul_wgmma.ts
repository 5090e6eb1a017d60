import type { OpCall } from '../../../src/ops/contract.ts'
import { rowCount } from '../../../src/tensor/type.ts'
import type { KernelChoice } from '../../backend.ts'
import { formatNumbers, inRanges } from './matmul_epilogue.ts'
import { type Plan, planOf, TILE_ROWS, tensorMap } from './matmul_plan.ts'
import { type CudaTraits, launch } from './rule.ts'
import { selectVariant } from './variant.ts'

/** Elements along k that a stage of kernels-cuda/matmul_wgmma.sm_90a.cu has of each row. */
const STAGE_DEPTH = 64
/** 4.8 TB/s over 132 multiprocessors at 1.83 GHz. */
const BYTES_PER_CYCLE = 20

/**
 * Cycles are those of tensor cores for a block's 256 columns, of L2 (32 KB at an assumed 51 bytes a cycle) for 128.
 * Predicted, not measured.
 */
const tiles = [
  { variant: '2x256', blocks: 2, columns: 256, stageDepth: STAGE_DEPTH, stageCycles: 1024 },
  { variant: '128', blocks: 1, columns: 128, stageDepth: STAGE_DEPTH, stageCycles: 640 },
] as const

/** The product on Hopper's tensor cores; undefined where operands or architecture do not allow it, or tuning knows better. */
export function matmulWgmma(call: OpCall, traits: CudaTraits): KernelChoice | undefined {
  const { x, w } = call.inputs
  const rows = rowCount(x!.shape)
  const [columns, depth] = w!.shape as readonly [number, number]
  // Rows of a tensor map are multiples of 16 bytes.
  if (traits.arch !== 'sm_90a' || x!.format === 'f32' || depth % 8 !== 0) return undefined
  const variants = tiles.map((tile) => {
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
  const format = formatNumbers[x!.format]!
  return inRanges(call, range, (splits, { bindings, constants }) =>
    launch(
      'matmul_wgmma.sm_90a',
      `matmul_wgmma_${x!.format}_${tile.variant}`,
      grid,
      [{ port: 'x', access: 'read' }, { port: 'w', access: 'read' }, ...bindings],
      {
        ...tensorMap('x', format, [rows, depth], [TILE_ROWS / tile.blocks, STAGE_DEPTH]),
        ...tensorMap('w', format, [columns, depth], [tile.columns, STAGE_DEPTH]),
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
