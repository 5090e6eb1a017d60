import { z } from 'zod'
import { check } from '../errors.ts'
import { elementCount, tensorType } from '../tensor/type.ts'
import { normal, uniform, values } from './cases.ts'
import { defineOp } from './contract.ts'
import { EPS_F32, TINY_F32 } from './tolerance.ts'

/** Most elements of a tile: those whose squares are summed before the sums of tiles are. */
export const NORM_TILE = 16384

/** Longest chain of additions: 256 lanes of four sums each over a tile, 2 to join the four, 32 the lanes (16 and 16). */
const tileDepth = (count: number): number => Math.ceil(count / 1024) + 2 + 32

/** The sums in 256 lanes, then the lanes. At a thousand million elements that is 271. */
const joinDepth = (tiles: number): number => Math.ceil(tiles / 256) + 32

/**
 * Sums of squares over tiles of a range of gradients: x f32 [n], tiles u32 [k, 2] (start and count in elements) to sums
 * [k]. A start is a multiple of 64 and a count at most NORM_TILE, as the constant `norm_tiles` gives them; of a tile
 * that leaves x only what is inside counts.
 *
 * The order of additions depends on a tile's count alone, not on where it lies: with norm_of_sums any division of
 * parameters over ranks gives the same bytes. Squares must stay inside f32: |x| below 1e19 / sqrt(n); elements below
 * 1e-19 may count as zero.
 */
export const square_sums = defineOp<Record<string, never>>({
  name: 'square_sums',
  summary: 'sums[i] = sum_j x[tiles[i,0] + j]^2 over j < tiles[i,1]',
  inputs: {
    x: { doc: '[n], n a multiple of 64', formats: ['f32'] },
    tiles: { doc: '[k, 2]', formats: ['u32'] },
  },
  outputs: { sums: { doc: '[k]', formats: ['f32'] } },
  attributes: z.strictObject({}),
  infer(_attrs, { x, tiles }) {
    check(
      x!.shape.length === 1 && x!.shape[0]! % 64 === 0,
      'invalid_shape',
      () => `square_sums: x must be [n], n a multiple of 64 as ranges of arenas are, got [${x!.shape}]`,
    )
    check(
      tiles!.shape.length === 2 && tiles!.shape[1] === 2,
      'invalid_shape',
      () => `square_sums: tiles must be [k, 2], got [${tiles!.shape}]`,
    )
    return { sums: tensorType('f32', tiles!.shape[0]!) }
  },
  gradient: { none: 'applied to gradients only' },
  reference: (_call, { x, tiles }) => ({
    sums: perTile(tiles!, (start, count) =>
      x!.subarray(start, start + count).reduce((sum, v) => sum + v * v, 0),
    ),
  }),
  // One rounding per square, the additions, the stored value. Squares below the smallest normal may vanish.
  tolerance(_call, { tiles }, expected) {
    const errors = perTile(
      tiles!,
      (_start, count, i) => expected.sums![i]! * (tileDepth(count) + 2) * EPS_F32 + count * TINY_F32,
    )
    return { sums: (i) => errors[i]! }
  },
  flops: ({ inputs }) => 2 * elementCount(inputs.x!.shape),
  cases: [
    { name: 'one', attrs: {}, inputs: { x: normal([64]), tiles: values([1, 2], [0, 1], 'u32') } },
    { name: 'prime', attrs: {}, inputs: { x: normal([1024]), tiles: values([1, 2], [0, 1009], 'u32') } },
    {
      name: 'tile',
      attrs: {},
      inputs: { x: normal([NORM_TILE], 0.01), tiles: values([1, 2], [0, NORM_TILE], 'u32') },
    },
    {
      name: 'tensors',
      attrs: {},
      // Not in the order of x, with gaps, one past a lane's share, and one tile twice.
      inputs: {
        x: normal([4096]),
        tiles: values([6, 2], [2048, 1027, 0, 3, 64, 1024, 3136, 37, 1920, 128, 64, 1024], 'u32'),
      },
    },
    {
      name: 'past_end',
      attrs: {},
      inputs: {
        x: normal([320]),
        tiles: values([4, 2], [256, 65, 320, 10, 0xffffffc0, 64, 192, NORM_TILE], 'u32'),
      },
    },
    {
      name: 'large_magnitude',
      attrs: {},
      inputs: { x: normal([320], 1e17), tiles: values([1, 2], [64, 250], 'u32') },
    },
    { name: 'zeros', attrs: {}, inputs: { x: values([320], [0]), tiles: values([2, 2], [0, 300], 'u32') } },
  ],
})

/** of(start, count, i) for each row of `tiles`. */
const perTile = (
  tiles: Float64Array,
  of: (start: number, count: number, i: number) => number,
): Float64Array =>
  Float64Array.from({ length: tiles.length / 2 }, (_, i) => of(tiles[2 * i]!, tiles[2 * i + 1]!, i))

/** Euclidean norm from the sums of squares of k tiles, f32 [1], in an order that depends on k alone. */
export const norm_of_sums = defineOp<Record<string, never>>({
  name: 'norm_of_sums',
  summary: 'norm = sqrt(sum_i sums[i])',
  inputs: { sums: { doc: '[...], k in all, none negative', formats: ['f32'] } },
  outputs: { norm: { doc: '[1]', formats: ['f32'] } },
  attributes: z.strictObject({}),
  infer: () => ({ norm: tensorType('f32', 1) }),
  gradient: { none: 'applied to gradients only' },
  reference: (_call, { sums }) => ({ norm: Float64Array.of(Math.sqrt(sums!.reduce((a, v) => a + v, 0))) }),
  // The additions, halved by the root; the root 4.5 ulp (1 / inverseSqrt), the stored value. Sums below the smallest
  // normal may vanish: k of them.
  tolerance({ inputs }, _inputs, expected) {
    const k = elementCount(inputs.sums!.shape)
    return { norm: () => expected.norm![0]! * (joinDepth(k) / 2 + 10) * EPS_F32 + Math.sqrt(k * TINY_F32) }
  },
  flops: ({ inputs }) => elementCount(inputs.sums!.shape),
  cases: [
    { name: 'one', attrs: {}, inputs: { sums: uniform([1], 0, 1) } },
    { name: 'prime', attrs: {}, inputs: { sums: uniform([37], 0, 1e-4) } },
    { name: 'past_lanes', attrs: {}, inputs: { sums: uniform([257, 1], 0, 1e6) } },
    { name: 'many', attrs: {}, inputs: { sums: uniform([3001], 0, 16384) } },
    { name: 'large_magnitude', attrs: {}, inputs: { sums: uniform([5], 1e37, 6e37) } },
    { name: 'zeros', attrs: {}, inputs: { sums: values([300], [0]) } },
  ],
})
