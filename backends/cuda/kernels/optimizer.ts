import { NORM_TILE } from '../../../src/ops/global_norm.ts'
import { elementCount, tensorType } from '../../../src/tensor/type.ts'
import { type KernelRule, launch } from './rule.ts'

/** Blocks of 256 threads with four elements each. */
const flatBlocks = (count: number): number => Math.ceil(count / 1024)

export const adamw: KernelRule = ({ inputs }) => {
  const count = elementCount(inputs.param!.shape)
  return {
    launches: [
      launch(
        'optimizer',
        'adamw',
        flatBlocks(count),
        [
          { port: 'param', access: 'read_write' },
          { port: 'moment1', access: 'read_write' },
          { port: 'moment2', access: 'read_write' },
          { port: 'gradient', access: 'read' },
          { port: 'hyper', access: 'read' },
        ],
        { count },
      ),
    ],
  }
}

export const clip_by_norm: KernelRule = ({ inputs }) => {
  const count = elementCount(inputs.x!.shape)
  return {
    launches: [
      launch(
        'optimizer',
        'clip_by_norm',
        flatBlocks(count),
        [
          { port: 'x', access: 'read_write' },
          { port: 'norm', access: 'read' },
          { port: 'limit', access: 'read' },
        ],
        { count },
      ),
    ],
  }
}

export const global_norm: KernelRule = ({ inputs }) => {
  const count = elementCount(inputs.x!.shape)
  const tiles = Math.ceil(count / NORM_TILE)
  return {
    launches: [
      launch(
        'optimizer',
        'global_norm_partial',
        tiles,
        [
          { port: 'x', access: 'read' },
          { port: 'partial', access: 'write' },
        ],
        { count, tile: NORM_TILE },
      ),
      launch(
        'optimizer',
        'global_norm_final',
        1,
        [
          { port: 'partial', access: 'read' },
          { port: 'norm', access: 'write' },
        ],
        { tiles },
      ),
    ],
    scratch: { partial: tensorType('f32', tiles) },
  }
}
