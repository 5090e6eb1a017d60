import type { OpCall } from '../../../src/ops/contract.ts'
import type { KernelChoice } from '../../backend.ts'
import { type Epilogue, formatNumbers, inRanges, productOf } from './matmul_epilogue.ts'
import { type Plan, planOf, TILE_ROWS, tensorMap } from './matmul_plan.ts'
import { BOX_ROWS, BYTES_PER_CYCLE, outputOf } from './matmul_wgmma.ts'
import { type CudaTraits, launch } from './rule.ts'
import { selectVariant } from './variant.ts'

/** Elements along k that a stage of kernels-cuda/lib/matmul_fp8.h has of each row: a block of e4m3_128. */
const STAGE_DEPTH = 128
/**
 * Cycles are those of tensor cores where two blocks share their rows of x, of L2 (33 KB at an assumed 51 bytes a cycle)
 * where each has its own. Predicted, not measured.
 */
export const fp8Tiles = [
  { variant: '2x128', blocks: 2, columns: 128, stageDepth: STAGE_DEPTH, stageCycles: 512 },
  { variant: '128', blocks: 1, columns: 128, stageDepth: STAGE_DEPTH, stageCycles: 660 },
] as const

/**
 * matmul with x and w in e4m3_128 on Hopper's tensor cores, or the gradient of a weight, which is that product of
 * transposed operands; undefined where operands or architecture do not allow it, or tuning knows better.
 */
export function matmulFp8(call: OpCall, traits: CudaTraits): KernelChoice | undefined {
  if (traits.arch !== 'sm_90a' || call.inputs.x!.format !== 'e4m3_128') return undefined
  const { rows, columns, depth } = productOf(call)
  // Boxes add to rows of whole 16 bytes.
  if (call.op === 'matmul_backward_weight' && columns % 4 !== 0) return undefined
  const variants = fp8Tiles.map((tile) => {
    const plan = planOf(tile, [rows, columns, depth], {
      multiprocessors: traits.multiprocessors,
      bytesPerCycle: BYTES_PER_CYCLE,
    })
    return { name: tile.variant, cycles: plan.cycles, choice: () => launches(call, plan) }
  })
  return selectVariant(
    traits,
    { op: 'matmul', formats: 'e4m3_128', shape: { rows, columns, depth } },
    variants,
  )
}

/** How the kernel stores y: by boxes a gradient, which it adds to what is there, and a product that nothing follows. */
function outputFp8(call: OpCall, last: Epilogue, rows: number) {
  const { suffix, constants } = outputOf(call, last, rows)
  if (call.op === 'matmul_backward_weight')
    return { suffix: '_plain', constants: { ...constants, output_format: formatNumbers.f32! } }
  return { suffix, constants: suffix ? { ...constants, accumulate: 0 } : constants }
}

function launches(call: OpCall, { tile, grid, range }: Plan): KernelChoice {
  const { a, b, rows, columns, depth } = productOf(call)
  const map = (port: string, height: number, box: number) =>
    tensorMap(port, formatNumbers.e4m3!, [height, depth], [box, STAGE_DEPTH])
  return inRanges(
    call,
    range,
    (splits, last, storedRows) => {
      const y = outputFp8(call, last, splits * storedRows)
      return launch(
        'matmul_fp8.sm_90a',
        `matmul_fp8${y.suffix}_${tile.variant}`,
        grid,
        [
          // The quants come first, a matrix of bytes; scales are read from the whole.
          { port: a, as: 'x', access: 'read' },
          { port: b, as: 'w', access: 'read' },
          { port: a, as: 'x_blocks', access: 'read' },
          { port: b, as: 'w_blocks', access: 'read' },
          ...last.bindings,
        ],
        {
          ...map('x', rows, TILE_ROWS / tile.blocks),
          ...map('w', columns, tile.columns),
          ...y.constants,
          x_rows: rows,
          rows: storedRows,
          columns,
          depth,
          splits,
          split_depth: range,
        },
      )
    },
    BOX_ROWS,
  )
}
