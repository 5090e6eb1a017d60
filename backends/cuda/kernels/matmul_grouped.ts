import { formatNumbers } from './matmul_epilogue.ts'
import { type KernelRule, launch } from './rule.ts'

/** Rows and columns of a tile of kernels-cuda/lib/mma_tile.h. */
const TILE = 64

/** Tiles that `rows` may be cut into: every expert, and rows before the first and behind the last, may begin one. */
const rowTiles = (rows: number, experts: number, tile: number): number =>
  Math.floor(rows / tile) + Math.min(rows, experts + 2)

export const matmul_grouped: KernelRule = ({ inputs, outputs }) => {
  const [rows, depth] = inputs.x!.shape as readonly [number, number]
  const [experts, columns] = inputs.w!.shape as readonly [number, number, number]
  const formats = `${inputs.w!.format}${inputs.x!.format === 'f32' ? '' : '_x16'}`
  return {
    launches: [
      launch(
        'matmul_grouped',
        `matmul_grouped_${formats}`,
        rowTiles(rows, experts, TILE) * Math.ceil(columns / TILE),
        [
          { port: 'x', access: 'read' },
          { port: 'offsets', access: 'read' },
          { port: 'w', access: 'read' },
          { port: 'y', access: 'write' },
        ],
        { rows, columns, depth, experts, output_format: formatNumbers[outputs.y!.format]! },
      ),
    ],
  }
}
