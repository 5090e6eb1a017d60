import { z } from 'zod'
import { check } from '../errors.ts'
import { tensorType } from '../tensor/type.ts'
import { normal, values } from './cases.ts'
import { defineOp } from './contract.ts'
import { exact } from './tolerance.ts'

/** Index of the largest value of a row; of equal ones the lowest index. */
export function highestIndex(row: ArrayLike<number>): number {
  let best = 0
  for (let i = 1; i < row.length; i++) if (row[i]! > row[best]!) best = i
  return best
}

/** y[t] = index of the largest x[t,:], the lowest one if several are equal. */
export const argmax = defineOp<Record<string, never>>({
  name: 'argmax',
  summary: 'y[t] = lowest index of the largest x[t,:]',
  inputs: { x: { doc: '[T, V]', formats: ['f32'] } },
  outputs: { y: { doc: '[T]', formats: ['u32'] } },
  attributes: z.strictObject({}),
  infer(_attrs, { x }) {
    check(x!.shape.length === 2, 'invalid_shape', () => `argmax: x must be [T, V], got [${x!.shape}]`)
    return { y: tensorType('u32', x!.shape[0]!) }
  },
  gradient: { none: 'an index has no derivative' },
  reference({ inputs }, { x }) {
    const [rows, width] = inputs.x!.shape as [number, number]
    return {
      y: Float64Array.from({ length: rows }, (_, t) => highestIndex(x!.subarray(t * width, (t + 1) * width))),
    }
  },
  tolerance: () => ({ y: exact }),
  flops: ({ inputs }) => inputs.x!.shape[0]! * inputs.x!.shape[1]!,
  cases: [
    { name: 'one', attrs: {}, inputs: { x: normal([1, 1]) } },
    { name: 'prime', attrs: {}, inputs: { x: normal([5, 37]) } },
    { name: 'past_tile', attrs: {}, inputs: { x: normal([3, 257]) } },
    { name: 'wide', attrs: {}, inputs: { x: normal([2, 5000]) } },
    { name: 'ties', attrs: {}, inputs: { x: values([5, 100], [0, 1, 3, 2, 3, 3, -1]) } },
    { name: 'ties_odd', attrs: {}, inputs: { x: values([5, 101], [-2, -5, -9, -2]) } },
    { name: 'all_equal', attrs: {}, inputs: { x: values([2, 300], [-3.4028234663852886e38]) } },
    { name: 'zeros_of_both_signs', attrs: {}, inputs: { x: values([1, 12], [-1, -0, 0, -0]) } },
    { name: 'large_magnitude', attrs: {}, inputs: { x: normal([3, 64], 1e37, 'f32', -2e38) } },
  ],
})
