import type { OpCall } from '../../../src/ops/contract.ts'
import { formatOf } from '../../../src/tensor/format.ts'
import type { KernelChoice } from '../../backend.ts'
import { depthOfRange, inRanges, productOf } from './matmul_epilogue.ts'
import { type CudaTraits, launch } from './rule.ts'

/** Warps of a block of kernels-cuda/matmul_skinny.cu, and columns of y that each of them has. */
const WARPS = 8
const WARP_COLUMNS = 32
/** Shorter ranges of the reduction cost more in sums written and read than they gain. */
const RANGE_UNIT = 512

/**
 * How a block is cut up to so many rows: warps side by side in columns, the others sharing the reduction, and how many
 * blocks are to run on a multiprocessor where the reduction may be cut for it. Few rows: little of x to share, so no
 * second launch for sums. Predicted, not measured.
 */
const cuts = [
  { rows: 8, columnWarps: 1, blocks: 1 },
  { rows: 16, columnWarps: 2, blocks: 1 },
  { rows: 32, columnWarps: 4, blocks: 2 },
] as const

/** Elements along k of a warp's chunk, by the format of w. */
const chunks: Readonly<Record<string, number>> = { f16: 32, bf16: 32, q8_0: 64, e4m3_128: 64, q4_0: 128 }

/**
 * The product of up to 32 rows with weights of 16 bits or fewer, read once at the speed of memory, and of any number of
 * rows in bf16 with quants; undefined for other formats, more rows, and rows of w that are not whole 16 bytes.
 */
export function matmulSkinny(call: OpCall, { multiprocessors }: CudaTraits): KernelChoice | undefined {
  const { x, w } = call.inputs
  const { rows, columns, depth } = productOf(call)
  const quantsOfBf16 = x!.format === 'bf16' && formatOf(w!.format).blockSize > 1
  const cut = cuts.find((one) => rows <= one.rows) ?? (quantsOfBf16 ? cuts.at(-1)! : undefined)
  const chunk = chunks[w!.format]
  const formats =
    x!.format === 'f32' ? w!.format : ['f16', 'bf16'].includes(x!.format) ? `${w!.format}_x16` : undefined
  if (!cut || !chunk || !formats || depth % 8 !== 0) return undefined
  const { columnWarps, blocks } = cut
  const tiles = Math.ceil(rows / cut.rows) * Math.ceil(columns / (columnWarps * WARP_COLUMNS))
  const unit = Math.max(RANGE_UNIT, (WARPS / columnWarps) * chunk)
  const range = depthOfRange(depth, (blocks * multiprocessors) / tiles, unit)
  return inRanges(call, range, (splits, { bindings, constants }) =>
    launch(
      'matmul_skinny',
      `matmul_skinny_${formats}`,
      tiles * splits,
      [{ port: 'x', access: 'read' }, { port: 'w', access: 'read' }, ...bindings],
      { rows, columns, depth, ...constants, splits, split_depth: range },
    ),
  )
}
