import type { OpCall } from '../../../src/ops/contract.ts'
import type { KernelChoice } from '../../backend.ts'
import { type Epilogue, formatNumbers, inRanges, productOf } from './matmul_epilogue.ts'
import { type Plan, planOf, TILE_ROWS, type Tile, tensorMap } from './matmul_plan.ts'
import type { Major } from './matmul_wgmma.ts'
import { type CudaTraits, launch } from './rule.ts'
import { selectVariant } from './variant.ts'

/** Bytes along k that a stage of kernels-cuda/lib/matmul_tcgen05.h has of each row. */
export const STAGE_BYTES = 128
/** Columns of a box along rows or columns of y, and its rows. */
export const BOX = 64
/** Rows of a box in which kernels-cuda/lib/tcgen05_output.h stores sums, and bytes of each. */
const BOX_ROWS = 32
const BOX_BYTES = 128
/** 8 TB/s over 148 multiprocessors at 1.9 GHz. */
export const BYTES_PER_CYCLE = 28

export interface Way {
  /** Format of the tensor maps: block formats are copied as bytes. */
  readonly map: 'bf16' | 'f16' | 'e4m3'
  /** Depths are multiples of this: rows of tensor maps of 16 bytes, stages' scales of whole words. */
  readonly depths: number
  readonly tiles: readonly Tile[]
}

const sixteenBits = {
  depths: 8,
  tiles: [
    { variant: 'pair_256', blocks: 2, rows: 256, columns: 128, stageDepth: 64, stageCycles: 512 },
    { variant: '128', blocks: 1, columns: 128, stageDepth: 64, stageCycles: 512 },
  ],
} as const

/**
 * How operands of a format are multiplied. Cycles of a stage are those of L2 for a block's part of it, at an assumed 64
 * bytes a cycle: for a pair's in 16 bits as many as those of tensor cores, else longer. Predicted, not measured.
 */
export const tcgen05Ways: Readonly<Record<string, Way>> = {
  bf16: { map: 'bf16', ...sixteenBits },
  f16: { map: 'f16', ...sixteenBits },
  e4m3_128: {
    map: 'e4m3',
    depths: 128,
    tiles: [
      { variant: 'pair_256', blocks: 2, rows: 256, columns: 128, stageDepth: 128, stageCycles: 536 },
      { variant: '128', blocks: 1, columns: 128, stageDepth: 128, stageCycles: 528 },
    ],
  },
  mxfp8: {
    map: 'e4m3',
    depths: 128,
    tiles: [
      { variant: 'pair_224', blocks: 2, rows: 256, columns: 112, stageDepth: 128, stageCycles: 502 },
      { variant: '192', blocks: 1, columns: 192, stageDepth: 128, stageCycles: 664 },
    ],
  },
  nvfp4: {
    map: 'e4m3',
    depths: 256,
    tiles: [
      { variant: 'pair_224', blocks: 2, rows: 256, columns: 112, stageDepth: 256, stageCycles: 568 },
      { variant: '192', blocks: 1, columns: 192, stageDepth: 256, stageCycles: 720 },
    ],
  },
}

const gradients: Readonly<Record<string, { readonly kernel: string; readonly a: Major; readonly b: Major }>> =
  {
    matmul_backward_input: { kernel: 'matmul_backward_input_tcgen05', a: 'k', b: 'mn' },
    matmul_backward_weight: { kernel: 'matmul_backward_weight_tcgen05', a: 'mn', b: 'mn' },
  }

/**
 * A product on Blackwell's tensor cores, of matmul or its gradients; undefined where operands or architecture do not
 * allow it, or tuning knows better.
 */
export function matmulTcgen05(call: OpCall, traits: CudaTraits): KernelChoice | undefined {
  const { a, b, rows, columns, depth } = productOf(call)
  const { format } = call.inputs[a]!
  const way = tcgen05Ways[format]
  if (traits.arch !== 'sm_103a' || !way || call.inputs[b]!.format !== format) return undefined
  const majors = gradients[call.op] ?? { a: 'k', b: 'k' }
  if (majors.a === 'mn' && rows % way.depths !== 0) return undefined
  if (majors.b === 'mn' && columns % way.depths !== 0) return undefined
  if ((majors.a === 'k' || majors.b === 'k') && depth % way.depths !== 0) return undefined
  const variants = way.tiles.map((tile) => {
    const plan = planOf(tile, [rows, columns, depth], {
      multiprocessors: traits.multiprocessors,
      bytesPerCycle: BYTES_PER_CYCLE,
    })
    const choice = () => (gradients[call.op] ? gradient(call, way, plan) : forward(call, way, plan))
    return { name: tile.variant, cycles: plan.cycles, choice }
  })
  return selectVariant(traits, { op: call.op, formats: format, shape: { rows, columns, depth } }, variants)
}

/** Sizes that a kernel is told, where `elements` of a stage's depth are its bytes, and its tensor maps. */
function operandsOf(call: OpCall, { map }: Way, { tile, range }: Plan, majors: { a: Major; b: Major }) {
  const { a, b, rows, columns, depth } = productOf(call)
  const inBytes = (elements: number): number => (elements * STAGE_BYTES) / tile.stageDepth
  const elementBytes = map === 'e4m3' ? 1 : 2
  const operand = (port: string, major: Major, index: number, box: number) =>
    major === 'k'
      ? tensorMap(
          port,
          formatNumbers[map]!,
          [index, inBytes(depth) / elementBytes],
          [box, STAGE_BYTES / elementBytes],
        )
      : tensorMap(port, formatNumbers[map]!, [depth, index], [BOX, BOX])
  return {
    maps: {
      ...operand(a, majors.a, rows, TILE_ROWS),
      ...operand(b, majors.b, columns, tile.columns),
    },
    sizes: { columns, depth: inBytes(depth), split_depth: inBytes(range) },
  }
}

function forward(call: OpCall, way: Way, plan: Plan): KernelChoice {
  const { rows } = productOf(call)
  const { format } = call.inputs.x!
  const { maps, sizes } = operandsOf(call, way, plan, { a: 'k', b: 'k' })
  const inBlocks = way.map === 'e4m3'
  const [module, kernel] =
    format === 'e4m3_128'
      ? ['matmul_tcgen05_fp8.sm_103a', 'matmul_tcgen05_fp8']
      : ['matmul_tcgen05.sm_103a', `matmul_tcgen05_${format}`]
  return inRanges(call, plan.range, (splits, { bindings, constants }) =>
    launch(
      module,
      `${kernel}_${plan.tile.variant}`,
      plan.grid,
      [
        { port: 'x', access: 'read' },
        { port: 'w', access: 'read' },
        // Scales are read from behind the quants.
        ...(inBlocks
          ? ([
              { port: 'x', as: 'x_blocks', access: 'read' },
              { port: 'w', as: 'w_blocks', access: 'read' },
            ] as const)
          : []),
        ...bindings,
      ],
      { ...maps, rows, ...sizes, ...constants, splits },
    ),
  )
}

function gradient(call: OpCall, way: Way, plan: Plan): KernelChoice {
  const { a, b } = productOf(call)
  const { kernel, ...majors } = gradients[call.op]!
  const { maps, sizes } = operandsOf(call, way, plan, majors)
  return inRanges(
    call,
    plan.range,
    (splits, last, storedRows) =>
      launch(
        'matmul_backward_tcgen05.sm_103a',
        `${kernel}_${way.map}_${plan.tile.variant}`,
        plan.grid,
        [{ port: a, access: 'read' }, { port: b, access: 'read' }, ...last.bindings],
        { ...maps, ...boxesOf(call, last, splits * storedRows), rows: storedRows, ...sizes, splits },
      ),
    BOX_ROWS,
  )
}

/** How the gradients' kernels store y, a matrix of so many rows. */
function boxesOf(call: OpCall, last: Epilogue, rows: number) {
  const { columns } = productOf(call)
  const { output_format } = last.constants as { output_format: number }
  const bytes = output_format === formatNumbers.f32 ? 4 : 2
  const map = tensorMap('y', output_format, [rows, columns], [BOX_ROWS, BOX_BYTES / bytes])
  return call.op === 'matmul_backward_weight'
    ? { ...map, accumulate: last.accumulate }
    : { ...map, output_format }
}
