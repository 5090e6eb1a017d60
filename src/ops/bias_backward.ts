import { z } from 'zod'
import { check } from '../errors.ts'
import { elementCount, lastDim, rowCount, sameShape } from '../tensor/type.ts'
import { normal } from './cases.ts'
import { defineOp } from './contract.ts'
import { EPS_F32 } from './tolerance.ts'

/** dbias[n] = accumulator[n] + sum_t dy[t,n], over the accumulator: the gradient of a bias added to every row. */
export const bias_backward = defineOp<Record<string, never>>({
  name: 'bias_backward',
  summary: 'dbias[n] = accumulator[n] + sum_t dy[t,n]',
  inputs: {
    accumulator: { doc: '[N]', formats: ['f32'] },
    dy: { doc: '[..., N]', formats: ['f32', 'f16', 'bf16'] },
  },
  outputs: { dbias: { doc: '[N]', formats: ['f32'] } },
  attributes: z.strictObject({}),
  infer(_attrs, { accumulator, dy }) {
    const vector = [lastDim(dy!.shape)]
    check(
      sameShape(accumulator!.shape, vector),
      'invalid_shape',
      () =>
        `bias_backward: accumulator must be [${vector}] for dy [${dy!.shape}], got [${accumulator!.shape}]`,
    )
    return { dbias: accumulator! }
  },
  inPlace: { dbias: 'accumulator' },
  gradient: { none: 'second derivatives are not used in training' },
  reference({ inputs }, { accumulator, dy }) {
    const width = lastDim(inputs.dy!.shape)
    const dbias = accumulator!.slice()
    for (let i = 0; i < dy!.length; i++) dbias[i % width]! += dy![i]!
    return { dbias }
  },
  // A sum of T + 1 terms in any order.
  tolerance({ inputs }, { accumulator, dy }) {
    const width = lastDim(inputs.dy!.shape)
    const size = accumulator!.map(Math.abs)
    for (let i = 0; i < dy!.length; i++) size[i % width]! += Math.abs(dy![i]!)
    return { dbias: (c) => rowCount(inputs.dy!.shape) * EPS_F32 * size[c]! + 2 ** -140 }
  },
  flops: ({ inputs }) => elementCount(inputs.dy!.shape),
  cases: [
    { name: 'one', attrs: {}, inputs: { accumulator: normal([1]), dy: normal([1, 1]) } },
    { name: 'vector', attrs: {}, inputs: { accumulator: normal([8]), dy: normal([8]) } },
    { name: 'prime', attrs: {}, inputs: { accumulator: normal([37]), dy: normal([5, 37]) } },
    { name: 'past_workgroup', attrs: {}, inputs: { accumulator: normal([260]), dy: normal([2, 2, 260]) } },
    { name: 'past_chunks', attrs: {}, inputs: { accumulator: normal([3], 10), dy: normal([2081, 3]) } },
    {
      name: 'large_magnitude',
      attrs: {},
      inputs: { accumulator: normal([16], 1e6), dy: normal([67, 16], 1e6) },
    },
    {
      name: 'bf16',
      attrs: {},
      inputs: { accumulator: normal([132]), dy: normal([67, 132], 1, 'bf16') },
    },
    { name: 'f16_odd_rows', attrs: {}, inputs: { accumulator: normal([37]), dy: normal([5, 37], 1, 'f16') } },
  ],
})
