import { NORM_TILE } from '../../../src/ops/global_norm.ts'
import { elementCount, tensorType } from '../../../src/tensor/type.ts'
import type { LaunchPlan } from '../../backend.ts'
import { packOf, parts } from './row.ts'
import { foldGrid, type KernelRule } from './rule.ts'

/** One invocation per pack of a flat range. */
const LANES = 64

export const adamw: KernelRule = ({ inputs }, { limits }) => ({
  launches: parts(elementCount(inputs.param!.shape), limits).map(({ elements, offset, bytes }) => {
    const packs = elements / packOf(elements)
    const { workgroups, gridX } = foldGrid(Math.ceil(packs / LANES))
    return {
      variant: 'adamw',
      modules: ['adamw', `lib/pack_${packOf(elements)}`],
      constants: { PACKS: packs, GRID_X: gridX },
      workgroups,
      bindings: [
        { port: 'param', access: 'read_write', offset, bytes },
        { port: 'moment1', access: 'read_write', offset, bytes },
        { port: 'moment2', access: 'read_write', offset, bytes },
        { port: 'gradient', access: 'read', offset, bytes },
        { port: 'hyper', access: 'read' },
      ],
    }
  }),
})

export const clip_by_norm: KernelRule = ({ inputs }, { limits }) => ({
  launches: parts(elementCount(inputs.x!.shape), limits).map(({ elements, offset, bytes }) => {
    const packs = elements / packOf(elements)
    const { workgroups, gridX } = foldGrid(Math.ceil(packs / LANES))
    return {
      variant: 'clip_by_norm',
      modules: ['clip_by_norm', `lib/pack_${packOf(elements)}`],
      constants: { PACKS: packs, GRID_X: gridX },
      workgroups,
      bindings: [
        { port: 'x', access: 'read_write', offset, bytes },
        { port: 'norm', access: 'read' },
        { port: 'limit', access: 'read' },
      ],
    }
  }),
})

/**
 * Always the tree over 256 lanes, also where there are subgroups: the summation order, and so the bits of the
 * norm, is then the same on every device.
 */
export const global_norm: KernelRule = ({ inputs }, { limits }) => {
  const n = elementCount(inputs.x!.shape)
  const tiles = Math.ceil(n / NORM_TILE)
  // Whole tiles per part, and so many that each part's sums start at an aligned offset too.
  const sums: LaunchPlan[] = parts(n, limits, (NORM_TILE * limits.bindingAlignment) / 4).map(
    ({ elements, offset, bytes }) => {
      const own = Math.ceil(elements / NORM_TILE)
      const { workgroups, gridX } = foldGrid(own)
      return {
        variant: 'global_norm_partial',
        modules: ['global_norm_partial', `lib/pack_${packOf(elements)}`, 'lib/reduce_tree'],
        constants: { PACKS: elements / packOf(elements), TILES: own, TILE: NORM_TILE, GRID_X: gridX },
        workgroups,
        bindings: [
          { port: 'x', access: 'read', offset, bytes },
          { port: 'partial', access: 'write', offset: offset / NORM_TILE, bytes: own * 4 },
        ],
      }
    },
  )
  return {
    launches: [
      ...sums,
      {
        variant: 'global_norm_final',
        modules: ['global_norm_final', 'lib/reduce_tree'],
        constants: { TILES: tiles },
        workgroups: [1, 1, 1],
        bindings: [
          { port: 'partial', access: 'read' },
          { port: 'norm', access: 'write' },
        ],
      },
    ],
    scratch: { partial: tensorType('f32', tiles) },
  }
}
