import { NORM_TILE } from '../../../src/ops/square_sums.ts'
import { elementCount } from '../../../src/tensor/type.ts'
import type { LaunchPlan } from '../../backend.ts'
import { packOf, parts } from './row.ts'
import { foldGrid, type KernelRule } from './rule.ts'

/** One invocation per pack of a flat range. */
const LANES = 64

export const adamw: KernelRule = ({ attrs, inputs }, { limits }) => ({
  launches: parts(elementCount(inputs.param!.shape), limits).map(({ elements, offset, bytes }) => {
    const pack = packOf(elements)
    const packs = elements / pack
    const { workgroups, gridX } = foldGrid(Math.ceil(packs / LANES))
    const before = Math.max(0, (attrs.boundary ?? Number.POSITIVE_INFINITY) - offset / 4) / pack
    return {
      variant: 'adamw',
      modules: ['adamw', `lib/pack_${pack}`, inputs.norm ? 'lib/clip_by_norm' : 'lib/clip_none'],
      constants: { PACKS: packs, BOUNDARY: Math.min(before, packs), GRID_X: gridX },
      workgroups,
      bindings: [
        { port: 'param', access: 'read_write', offset, bytes },
        { port: 'moment1', access: 'read_write', offset, bytes },
        { port: 'moment2', access: 'read_write', offset, bytes },
        { port: 'gradient', access: 'read', offset, bytes },
        { port: 'hyper', access: 'read' },
        ...['norm', 'limit']
          .filter((port) => inputs[port])
          .map((port) => ({ port, access: 'read' }) as const),
      ],
    }
  }),
})

/**
 * Always the tree over 256 lanes, also where there are subgroups: the summation order, and so the bits of the
 * norm, is then the same on every device. The rule does not know the tiles: parts of an x that is larger than a binding
 * overlap by a tile, so that each lies whole in the part it starts in.
 */
export const square_sums: KernelRule = ({ inputs }, { limits }) => {
  const n = elementCount(inputs.x!.shape)
  const tiles = inputs.tiles!.shape[0]!
  const unit = limits.bindingAlignment / 4
  const most = Math.floor(limits.maxBindingSize / 4 / unit) * unit
  const step = n <= most ? n : most - NORM_TILE
  if (step <= 0)
    return {
      unsupported: `a tile of ${4 * NORM_TILE} bytes does not fit the largest binding, ${limits.maxBindingSize} bytes`,
    }
  const { workgroups, gridX } = foldGrid(tiles)
  const launches: LaunchPlan[] = []
  for (let first = 0; first < n; first += step) {
    const elements = Math.min(step + NORM_TILE, n - first)
    const last = first + step >= n
    launches.push({
      variant: 'square_sums',
      modules: ['square_sums', 'lib/pack_4', 'lib/reduce_tree'],
      constants: {
        TILES: tiles,
        FIRST: first,
        END: last ? 0xffffffff : first + step,
        COUNT: elements,
        GRID_X: gridX,
      },
      workgroups,
      bindings: [
        { port: 'x', access: 'read', offset: 4 * first, bytes: 4 * elements },
        { port: 'tiles', access: 'read' },
        { port: 'sums', access: 'write' },
      ],
    })
  }
  return { launches }
}

export const norm_of_sums: KernelRule = ({ inputs }) => ({
  launches: [
    {
      variant: 'norm_of_sums',
      modules: ['norm_of_sums', 'lib/reduce_tree'],
      constants: { COUNT: elementCount(inputs.sums!.shape) },
      workgroups: [1, 1, 1],
      bindings: [
        { port: 'sums', access: 'read' },
        { port: 'norm', access: 'write' },
      ],
    },
  ],
})
