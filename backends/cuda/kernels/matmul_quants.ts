import type { OpCall } from '../../../src/ops/contract.ts'
import type { KernelChoice } from '../../backend.ts'
import { formatNumbers, inRanges, productOf } from './matmul_epilogue.ts'
import { type Plan, planOf, tensorMap } from './matmul_plan.ts'
import { type CudaTraits, launch } from './rule.ts'
import { selectVariant } from './variant.ts'

/** Of kernels-cuda/matmul_quants.sm_90a.cu: columns of a tile, bytes of a row of w in a stage, elements of a box of x. */
const [COLUMNS, STAGE_BYTES, BOX] = [128, 128, 64]
/** Up to so many rows matmul_skinny, which needs no columns of w together, is at the speed of memory. */
const SKINNY_ROWS = 32
/** 4.8 TB/s over 132 multiprocessors at 1.83 GHz. */
const BYTES_PER_CYCLE = 20

/** Elements along k of a stage, and what limits it by rows of the tile: instructions, memory or tensor cores. */
const tile = (rows: number, stageDepth: number, stageCycles: number) => ({
  variant: String(rows),
  blocks: 1,
  rows,
  columns: COLUMNS,
  stageDepth,
  stageCycles,
})

type RowTile = ReturnType<typeof tile>

/** Predicted, not measured. */
const tilesOf: Readonly<Record<string, readonly RowTile[]>> = {
  q4_0: [tile(64, 256, 1184), tile(128, 256, 2048)],
  q8_0: [tile(64, 128, 870), tile(128, 128, 1024)],
  e4m3_128: [tile(64, 128, 845), tile(128, 128, 1024)],
}

/**
 * matmul with x in bf16 and w in quants on Hopper's tensor cores; undefined where operands or architecture do not allow
 * it, where rows are few, or where tuning knows better.
 */
export function matmulQuants(call: OpCall, traits: CudaTraits): KernelChoice | undefined {
  const { x, w } = call.inputs
  const tiles = tilesOf[w!.format]
  const { rows, columns, depth } = productOf(call)
  if (traits.arch !== 'sm_90a' || x!.format !== 'bf16' || !tiles || rows <= SKINNY_ROWS) return undefined
  const variants = tiles
    .filter(({ stageDepth }) => depth % stageDepth === 0)
    .map((one) => {
      const plan = planOf(one, [rows, columns, depth], {
        multiprocessors: traits.multiprocessors,
        bytesPerCycle: BYTES_PER_CYCLE,
      })
      return { name: one.variant, cycles: plan.cycles, choice: () => launches(call, plan) }
    })
  return selectVariant(
    traits,
    { op: call.op, formats: `bf16_${w!.format}`, shape: { rows, columns, depth } },
    variants,
  )
}

function launches(call: OpCall, { tile, grid, range }: Plan<RowTile>): KernelChoice {
  const { rows, columns, depth } = productOf(call)
  const rowBytes = (depth / tile.stageDepth) * STAGE_BYTES
  return inRanges(call, range, (splits, { bindings, constants }) =>
    launch(
      'matmul_quants.sm_90a',
      `matmul_quants_${call.inputs.w!.format}_${tile.variant}`,
      grid,
      [
        { port: 'x', access: 'read' },
        // The quants come first, a matrix of bytes; scales are read from the whole.
        { port: 'w', access: 'read' },
        { port: 'w', as: 'w_blocks', access: 'read' },
        ...bindings,
      ],
      {
        ...tensorMap('x', formatNumbers.bf16!, [rows, depth], [tile.rows, BOX]),
        ...tensorMap('w', formatNumbers.e4m3!, [columns, rowBytes], [COLUMNS, STAGE_BYTES]),
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
