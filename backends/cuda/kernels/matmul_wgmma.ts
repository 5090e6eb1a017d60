import type { OpCall } from '../../../src/ops/contract.ts'
import type { KernelChoice } from '../../backend.ts'
import { type Epilogue, formatNumbers, inRanges, isPlain, productOf } from './matmul_epilogue.ts'
import { type Plan, planOf, TILE_ROWS, tensorMap } from './matmul_plan.ts'
import { type CudaTraits, launch } from './rule.ts'
import { selectVariant } from './variant.ts'

/** Elements along k that a stage of kernels-cuda/lib/matmul_wgmma.h has of each row. */
const STAGE_DEPTH = 64
/** Rows of a box in which kernels-cuda/lib/matmul_output.h stores sums, and bytes of each. */
export const BOX_ROWS = 16
export const BOX_BYTES = 128
/** 4.8 TB/s over 132 multiprocessors at 1.83 GHz. */
export const BYTES_PER_CYCLE = 20

/**
 * Cycles are those of tensor cores for a cluster's blocks, of L2 (32 and 24 KB at an assumed 51 bytes a cycle) for the
 * others: less of a product's time goes into tiles that reach past its edges or leave multiprocessors idle. Predicted,
 * not measured.
 */
export const wgmmaTiles = [
  { variant: '2x256', blocks: 2, columns: 256, stageDepth: STAGE_DEPTH, stageCycles: 1024 },
  { variant: '2x192', blocks: 2, columns: 192, stageDepth: STAGE_DEPTH, stageCycles: 768 },
  { variant: '128', blocks: 1, columns: 128, stageDepth: STAGE_DEPTH, stageCycles: 640 },
  { variant: '64', blocks: 1, columns: 64, stageDepth: STAGE_DEPTH, stageCycles: 480 },
] as const

export type WgmmaTile = (typeof wgmmaTiles)[number]

/** Which index of an operand its neighbours in memory differ in: k, or that of y's rows (of a) or columns (of b). */
export type Major = 'k' | 'mn'

const kernels: Readonly<
  Record<string, { readonly module: string; readonly kernel: string; readonly a: Major; readonly b: Major }>
> = {
  matmul: { module: 'matmul_wgmma.sm_90a', kernel: 'matmul_wgmma', a: 'k', b: 'k' },
  matmul_backward_input: {
    module: 'matmul_backward_wgmma.sm_90a',
    kernel: 'matmul_backward_input_wgmma',
    a: 'k',
    b: 'mn',
  },
  matmul_backward_weight: {
    module: 'matmul_backward_wgmma.sm_90a',
    kernel: 'matmul_backward_weight_wgmma',
    a: 'mn',
    b: 'mn',
  },
}

/**
 * A product on Hopper's tensor cores, of matmul or its gradients; undefined where operands or architecture do not allow
 * it, or tuning knows better.
 */
export function matmulWgmma(call: OpCall, traits: CudaTraits): KernelChoice | undefined {
  const { a, b, rows, columns, depth } = productOf(call)
  const [left, right] = [call.inputs[a]!, call.inputs[b]!]
  const majors = kernels[call.op]!
  if (traits.arch !== 'sm_90a' || !['f16', 'bf16'].includes(left.format) || right.format !== left.format)
    return undefined
  // Rows of a tensor map are multiples of 16 bytes.
  const width = (major: Major, index: number): number => (major === 'k' ? depth : index)
  if (width(majors.a, rows) % 8 !== 0 || width(majors.b, columns) % 8 !== 0) return undefined
  const variants = wgmmaTiles.map((tile) => {
    const plan = planOf(tile, [rows, columns, depth], {
      multiprocessors: traits.multiprocessors,
      bytesPerCycle: BYTES_PER_CYCLE,
    })
    return { name: tile.variant, cycles: plan.cycles, choice: () => launches(call, plan) }
  })
  return selectVariant(
    traits,
    { op: call.op, formats: left.format, shape: { rows, columns, depth } },
    variants,
  )
}

function launches(call: OpCall, { tile, grid, range }: Plan): KernelChoice {
  const { a, b, rows, columns, depth } = productOf(call)
  const { module, kernel, ...majors } = kernels[call.op]!
  const { format } = call.inputs[a]!
  const map = (port: string, major: Major, index: number, box: number) =>
    major === 'k'
      ? tensorMap(port, formatNumbers[format]!, [index, depth], [box, STAGE_DEPTH])
      : tensorMap(port, formatNumbers[format]!, [depth, index], [STAGE_DEPTH, STAGE_DEPTH])
  return inRanges(
    call,
    range,
    (splits, last, storedRows) => {
      const y = outputOf(call, last, splits * storedRows)
      return launch(
        module,
        `${kernel}${y.suffix}_${format}_${tile.variant}`,
        grid,
        [{ port: a, access: 'read' }, { port: b, access: 'read' }, ...last.bindings],
        {
          ...map(a, majors.a, rows, TILE_ROWS / tile.blocks),
          ...map(b, majors.b, columns, tile.columns),
          ...y.constants,
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

/** How the kernel stores y, a matrix of so many rows: gradients by boxes, products too where nothing follows the sum. */
export function outputOf(call: OpCall, last: Epilogue, rows: number) {
  const { columns } = productOf(call)
  const { output_format } = last.constants as { output_format: number }
  const bytes = output_format === formatNumbers.f32 ? 4 : 2
  if (call.op === 'matmul' && (!isPlain(last) || (columns * bytes) % 16 !== 0))
    return { suffix: '', constants: last.constants }
  const map = tensorMap('y', output_format, [rows, columns], [BOX_ROWS, BOX_BYTES / bytes])
  if (call.op === 'matmul_backward_weight')
    return { suffix: '', constants: { ...map, accumulate: last.accumulate } }
  return { suffix: call.op === 'matmul' ? '_plain' : '', constants: { ...map, output_format } }
}
