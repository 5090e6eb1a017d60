import type { OpCall } from '../../../src/ops/contract.ts'
import { type FormatName, formatOf } from '../../../src/tensor/format.ts'
import { lastDim, rowCount } from '../../../src/tensor/type.ts'
import type { KernelChoice } from '../../backend.ts'
import { matmulThenGate } from '../../matmul_gated.ts'
import { transposedWeightGradient } from '../../transposed_weight_gradient.ts'
import { depthOfRange, epilogue, inRanges, productOf } from './matmul_epilogue.ts'
import { matmulFp8 } from './matmul_fp8.ts'
import { matmulQuants } from './matmul_quants.ts'
import { matmulSkinny } from './matmul_skinny.ts'
import { matmulTcgen05 } from './matmul_tcgen05.ts'
import { matmulWgmma } from './matmul_wgmma.ts'
import { type CudaTraits, type KernelRule, launch } from './rule.ts'

/**
 * Up to so many rows matmul_vector takes weights as fast as memory gives them: four, where a weight has instructions
 * enough for a multiply-add of each. A quant of 4 bits has 3.6; where x is in bf16, tensor cores need fewer from the
 * first row on.
 */
const vectorRows = (x: FormatName, w: FormatName): number =>
  x === 'bf16' && w !== x ? 0 : w === 'q4_0' ? 1 : 4
/** Columns of a block of matmul_vector, and rows and columns of a tile of kernels-cuda/lib/mma_tile.h. */
const VECTOR_COLUMNS = 4
const MMA_TILE = 64

/**
 * One to four rows: matmul_vector; up to 32, where rows of w are whole 16 bytes, and all with x in bf16 and w in quants:
 * matmul_skinny. More, and rows that are not a multiple of four elements: matmul_mma. Where the architecture has it and
 * operands allow it: matmul_wgmma, matmul_fp8, matmul_quants or matmul_tcgen05.
 */
export const matmul: KernelRule = (call, traits) => {
  const { x, w } = call.inputs
  const rows = rowCount(x!.shape)
  const [columns, depth] = w!.shape as readonly [number, number]
  const other =
    matmulVector(call) ??
    matmulWgmma(call, traits) ??
    matmulFp8(call, traits) ??
    matmulTcgen05(call, traits) ??
    matmulQuants(call, traits) ??
    matmulSkinny(call, traits)
  if (other) return other
  // About four blocks per multiprocessor; shorter ranges would cost more in parts written and read than they gain.
  const blocks = tiles(rows, columns)
  const range = depthOfRange(depth, (4 * traits.multiprocessors) / blocks, 128)
  return inRanges(call, range, (splits, { bindings, constants }) =>
    launch('matmul_mma', `matmul_mma_${formatsOf(call)}`, blocks * splits, [...operands, ...bindings], {
      rows,
      columns,
      depth,
      ...constants,
      splits,
      split_depth: range,
    }),
  )
}

const operands = [
  { port: 'x', access: 'read' },
  { port: 'w', access: 'read' },
] as const

const formatsOf = ({ inputs: { x, w } }: OpCall): string =>
  `${w!.format}${x!.format === 'f32' ? '' : formatOf(x!.format).blockSize > 1 ? '_both' : '_x16'}`

/** matmul or matmul_gated of few rows by matmul_vector. */
function matmulVector(call: OpCall): KernelChoice | undefined {
  const { x, w } = call.inputs
  const rows = rowCount(x!.shape)
  const depth = lastDim(x!.shape)
  if (rows > vectorRows(x!.format, w!.format) || depth % 4 !== 0) return undefined
  const columns = lastDim(call.outputs.y!.shape)
  const ups = w!.shape[0]! - columns
  const { bindings, constants } = epilogue(call)
  const blocks = Math.ceil(w!.shape[0]! / VECTOR_COLUMNS)
  const sizes = { rows, columns, depth, ups, ...constants }
  return {
    launches: [
      launch('matmul_vector', `matmul_vector_${formatsOf(call)}`, blocks, [...operands, ...bindings], sizes),
    ],
  }
}

/** One launch for few rows; else matmul, then its gate. */
export const matmulGated = (call: OpCall, choose: (call: OpCall) => KernelChoice): KernelChoice =>
  matmulVector(call) ?? matmulThenGate(call, choose)

const tiles = (rows: number, columns: number): number =>
  Math.ceil(rows / MMA_TILE) * Math.ceil(columns / MMA_TILE)

/** Gradients: on matmul_mma's tiles, by kernels without bias and activation, or by matmulWgmma or matmulTcgen05. */
function backward(kernel: string, call: OpCall, traits: CudaTraits): KernelChoice {
  const exact = matmulWgmma(call, traits) ?? matmulTcgen05(call, traits)
  if (exact) return exact
  const { a, b, rows, columns, depth } = productOf(call)
  const blocks = tiles(rows, columns)
  const range = depthOfRange(depth, (4 * traits.multiprocessors) / blocks, 128)
  return inRanges(call, range, (splits, { bindings, constants, accumulate }) =>
    launch(
      'matmul_backward',
      kernel,
      blocks * splits,
      [{ port: a, access: 'read' }, { port: b, access: 'read' }, ...bindings],
      {
        rows,
        columns,
        depth,
        output_format: constants.output_format!,
        accumulate,
        splits,
        split_depth: range,
      },
    ),
  )
}

export const matmul_backward_input: KernelRule = (call, traits) => {
  const { dy, w } = call.inputs
  const formats = dy!.format === 'f32' ? w!.format : `${w!.format}_x16`
  return backward(`matmul_backward_input_${formats}`, call, traits)
}

/** Of transposed operands: the product of both, where no kernel adds it to the accumulator. */
export const matmulBackwardWeight = (
  call: OpCall,
  traits: CudaTraits,
  choose: (call: OpCall) => KernelChoice,
): KernelChoice =>
  call.attrs.transposed
    ? (matmulFp8(call, traits) ?? transposedWeightGradient(call, choose))
    : backward(`matmul_backward_weight_${call.inputs.x!.format}`, call, traits)
