import { z } from 'zod'
import { check } from '../errors.ts'
import { philox4x32 } from '../tensor/philox.ts'
import { sameShape, tensorType } from '../tensor/type.ts'
import { integers, values } from './cases.ts'
import { defineOp } from './contract.ts'
import { exact } from './tolerance.ts'

/** Words of the Philox stream that `sample` draws from: key holds seed low, seed high, step, stream. */
export const random_bits = defineOp<{ count: number }>({
  name: 'random_bits',
  summary:
    'bits[4 i + j] = word j of Philox4x32-10 at counter (key[2], key[3], i, 0) with key (key[0], key[1])',
  source: 'Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011',
  inputs: { key: { doc: '[4]: seed low, seed high, step, stream', formats: ['u32'] } },
  outputs: { bits: { doc: '[count]', formats: ['u32'] } },
  attributes: z.strictObject({ count: z.int().positive() }),
  infer({ count }, { key }) {
    check(
      sameShape(key!.shape, [4]),
      'invalid_shape',
      () => `random_bits: key must be [4], got [${key!.shape}]`,
    )
    return { bits: tensorType('u32', count) }
  },
  gradient: { none: 'random integers' },
  reference({ attrs }, { key }) {
    const bits = new Float64Array(attrs.count)
    for (let i = 0; i < bits.length; i++)
      bits[i] = philox4x32([key![2]!, key![3]!, i >> 2, 0], [key![0]!, key![1]!])[i & 3]!
    return { bits }
  },
  tolerance: () => ({ bits: exact }),
  flops: () => 0,
  cases: [
    { name: 'one', attrs: { count: 1 }, inputs: { key: values([4], [0], 'u32') } },
    { name: 'prime', attrs: { count: 67 }, inputs: { key: values([4], [1, 2, 3, 4], 'u32') } },
    { name: 'all_ones', attrs: { count: 300 }, inputs: { key: values([4], [0xffffffff], 'u32') } },
    { name: 'random_key', attrs: { count: 1024 }, inputs: { key: integers([4], 0, 2 ** 32) } },
  ],
})
