import type { OpCall } from '../../../src/ops/contract.ts'
import { formatOf } from '../../../src/tensor/format.ts'
import type { KernelChoice, LaunchPlan } from '../../backend.ts'
import { groupedProductOf, rowTiles } from './grouped_product.ts'
import { matmulGroupedTcgen05 } from './matmul_grouped_tcgen05.ts'
import { matmulGroupedWgmma } from './matmul_grouped_wgmma.ts'
import { type CudaTraits, type KernelRule, launch } from './rule.ts'

/** Rows and columns of a tile of kernels-cuda/lib/mma_tile.h. */
const MMA_TILE = 64

/** Tiles of lib/mma_tile.h; where the architecture has them those of matmulGroupedWgmma or matmulGroupedTcgen05. */
function grouped(module: string, formats: string, call: OpCall, traits: CudaTraits): KernelChoice {
  const exact = matmulGroupedWgmma(call, traits) ?? matmulGroupedTcgen05(call, traits)
  if (exact) return exact
  const { a, b, y, ofWeights, sizes, constants } = groupedProductOf(call)
  const { rows, columns, experts } = sizes
  // Rows before the first expert and behind the last are groups too.
  const down = ofWeights ? experts * Math.ceil(rows / MMA_TILE) : rowTiles(rows, experts + 2, MMA_TILE)
  const bindings: LaunchPlan['bindings'] = [
    { port: a, access: 'read' },
    { port: b, access: 'read' },
    { port: 'offsets', access: 'read' },
    y,
  ]
  const blocks = down * Math.ceil(columns / MMA_TILE)
  return { launches: [launch(module, `${call.op}_${formats}`, blocks, bindings, { ...sizes, ...constants })] }
}

export const matmul_grouped: KernelRule = (call, traits) => {
  const { x, w } = call.inputs
  const both = x!.format === 'f32' ? '' : formatOf(x!.format).blockSize > 1 ? '_both' : '_x16'
  return grouped('matmul_grouped', `${w!.format}${both}`, call, traits)
}

export const matmul_grouped_backward_input: KernelRule = (call, traits) =>
  grouped('matmul_grouped_backward', call.inputs.dy!.format, call, traits)

export const matmul_grouped_backward_weight: KernelRule = (call, traits) =>
  grouped('matmul_grouped_backward', call.inputs.dy!.format, call, traits)
