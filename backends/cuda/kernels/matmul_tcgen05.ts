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

interface Way {
  /** Format of the tensor maps: block formats are copied as bytes. */
  readonly map: string
  /** Whether the kernel reads scales from behind the quants. */
  readonly scaled: boolean
  /** Depths are multiples of this: rows of tensor maps of 16 bytes, stages' scales of whole words. */
  readonly depths: number
  readonly tiles: readonly Tile[]
}

const sixteenBits = {
  scaled: false,
  depths: 8,
  tiles: [
    { variant: '256', blocks: 1, columns: 256, stageDepth: 64, stageCycles: 768 },
    { variant: '128', blocks: 1, columns: 128, stageDepth: 64, stageCycles: 512 },
  ],
} as const

/**
 * How x and w of a format are multiplied. Cycles of a stage are those of L2 at an assumed 64 bytes a cycle, longer than
 * tensor cores take (512 for 256 columns in 16 bits). Predicted, not measured.
 */
const ways: Readonly<Record<string, Way>> = {
  bf16: { map: 'bf16', ...sixteenBits },
  f16: { map: 'f16', ...sixteenBits },
  mxfp8: {
    map: 'e4m3',
    scaled: true,
    depths: 128,
    tiles: [{ variant: '192', blocks: 1, columns: 192, stageDepth: 128, stageCycles: 664 }],
  },
  nvfp4: {
    map: 'e4m3',
    scaled: true,
    depths: 256,
    tiles: [{ variant: '192', blocks: 1, columns: 192, stageDepth: 256, stageCycles: 720 }],
  },
}

/** The product on Blackwell's tensor cores; undefined where operands or architecture do not allow it, or tuning knows better. */
export function matmulTcgen05(call: OpCall, traits: CudaTraits): KernelChoice | undefined {
  const { x, w } = call.inputs
  const rows = rowCount(x!.shape)
  const [columns, depth] = w!.shape as readonly [number, number]
  const way = ways[x!.format]
  if (traits.arch !== 'sm_103a' || !way || w!.format !== x!.format || depth % way.depths !== 0)
    return undefined
  const variants = way.tiles.map((tile) => {
    const plan = planOf(tile, [rows, columns, depth], {
      multiprocessors: traits.multiprocessors,
      bytesPerCycle: BYTES_PER_CYCLE,
    })
    return { name: tile.variant, cycles: plan.cycles, choice: () => launches(call, way, plan) }
  })
  return selectVariant(traits, { op: call.op, formats: x!.format, shape: { rows, columns, depth } }, variants)
}

function launches(call: OpCall, { map, scaled }: Way, { tile, grid, range }: Plan): KernelChoice {
  const { x, w } = call.inputs
  const rows = rowCount(x!.shape)
  const [columns, depth] = w!.shape as readonly [number, number]
  const inBytes = (elements: number): number => (elements * STAGE_BYTES) / tile.stageDepth
  const elementBytes = map === 'e4m3' ? 1 : 2
  const [width, boxWidth] = [inBytes(depth) / elementBytes, STAGE_BYTES / elementBytes]
  const blocks = (['x', 'w'] as const).map(
    (port) => ({ port, as: `${port}_blocks`, access: 'read' }) as const,
  )
  return inRanges(call, range, (splits, { bindings, constants }) =>
    launch(
      'matmul_tcgen05.sm_103a',
      `matmul_tcgen05_${x!.format}_${tile.variant}`,
      grid,
      [{ port: 'x', access: 'read' }, { port: 'w', access: 'read' }, ...(scaled ? blocks : []), ...bindings],
      {
        ...tensorMap('x', formatNumbers[map]!, [rows, width], [TILE_ROWS, boxWidth]),
        ...tensorMap('w', formatNumbers[map]!, [columns, width], [tile.columns, boxWidth]),
        rows,
        columns,
        depth: inBytes(depth),
        ...constants,
        splits,
        split_depth: inBytes(range),
      },
    ),
  )
}
