import { z } from 'zod'
import { check } from '../errors.ts'
import { integers, normal } from './cases.ts'
import { defineOp } from './contract.ts'
import { exact } from './tolerance.ts'

const port = { doc: '[...], up to 4 dims', formats: ['f32', 'u32'] } as const

/** Row-major strides. */
export const strides = (shape: readonly number[]): number[] =>
  shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1))

/** y[i_p0, i_p1, ...] = x[i_0, i_1, ...]: dim d of y is dim permutation[d] of x. */
export const transpose = defineOp<{ permutation: number[] }>({
  name: 'transpose',
  summary: 'dim d of y is dim permutation[d] of x',
  inputs: { x: port },
  outputs: { y: port },
  attributes: z.strictObject({ permutation: z.array(z.int().nonnegative()).min(1).max(4) }),
  infer({ permutation }, { x }) {
    const rank = x!.shape.length
    check(
      permutation.length === rank && new Set(permutation).size === rank && permutation.every((d) => d < rank),
      'invalid_shape',
      () =>
        `transpose: x [${x!.shape}] needs a permutation of its ${rank} dims (0 to ${rank - 1}), got [${permutation}]`,
    )
    return { y: { ...x!, shape: permutation.map((d) => x!.shape[d]!) } }
  },
  gradient: {
    x: {
      input: ({ g, attrs: { permutation }, dOutputs }) =>
        g.op(
          'transpose',
          { permutation: permutation.map((_, d) => permutation.indexOf(d)) },
          { x: dOutputs.y },
        ).y!,
    },
  },
  reference({ attrs, inputs, outputs }, { x }) {
    const steps = strides(inputs.x!.shape)
    const sizes = strides(outputs.y!.shape)
    const y = x!.map((_, i) => {
      let from = 0
      outputs.y!.shape.forEach((dim, d) => {
        from += (Math.floor(i / sizes[d]!) % dim) * steps[attrs.permutation[d]!]!
      })
      return x![from]!
    })
    return { y }
  },
  tolerance: () => ({ y: exact }),
  flops: () => 0,
  cases: [
    { name: 'one', attrs: { permutation: [0] }, inputs: { x: normal([1]) } },
    { name: 'matrix', attrs: { permutation: [1, 0] }, inputs: { x: normal([13, 17]) } },
    { name: 'matrix_even', attrs: { permutation: [1, 0] }, inputs: { x: normal([36, 64]) } },
    { name: 'heads', attrs: { permutation: [0, 2, 1, 3] }, inputs: { x: normal([2, 5, 3, 8]) } },
    { name: 'heads_odd', attrs: { permutation: [0, 2, 1, 3] }, inputs: { x: normal([2, 5, 3, 7]) } },
    { name: 'cycle', attrs: { permutation: [2, 0, 1] }, inputs: { x: normal([3, 4, 5]) } },
    { name: 'reverse', attrs: { permutation: [3, 2, 1, 0] }, inputs: { x: normal([2, 3, 4, 5]) } },
    { name: 'swap_ends', attrs: { permutation: [3, 1, 2, 0] }, inputs: { x: normal([4, 3, 5, 8]) } },
    { name: 'u32', attrs: { permutation: [1, 0] }, inputs: { x: integers([3, 67], 0, 2 ** 32) } },
  ],
})
