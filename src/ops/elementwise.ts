import { z } from 'zod'
import { check } from '../errors.ts'
import { elementCount, sameShape } from '../tensor/type.ts'
import { normal, same, values } from './cases.ts'
import { defineOp } from './contract.ts'
import { EPS_F32, TINY_F32 } from './tolerance.ts'

type None = Record<string, never>
const port = { doc: '[...]', formats: ['f32'] } as const
const noAttributes = z.strictObject({})

/** One rounding of the result; a subnormal one may be flushed. */
const rounded =
  (expected: Float64Array) =>
  (i: number): number =>
    Math.abs(expected[i]!) * EPS_F32 + TINY_F32

function checkSame(op: string, first: readonly number[], second: readonly number[], name: string): void {
  check(
    sameShape(first, second),
    'invalid_shape',
    () => `${op}: ${name} must be [${first}] like the other input, got [${second}]`,
  )
}

const pairCases = [
  { name: 'one', attrs: {}, inputs: { a: normal([1]), b: normal([1]) } },
  { name: 'prime', attrs: {}, inputs: { a: normal([3, 37]), b: normal([3, 37]) } },
  { name: 'past_workgroup', attrs: {}, inputs: { a: normal([257]), b: normal([257]) } },
  { name: 'vectors', attrs: {}, inputs: { a: normal([2, 3, 44]), b: normal([2, 3, 44], 1e4) } },
  { name: 'same_tensor', attrs: {}, inputs: { a: normal([5, 8]), b: same(normal([5, 8]), 'a') } },
]

/** y = a + b, equal shapes. */
export const add = defineOp<None>({
  name: 'add',
  summary: 'y = a + b',
  inputs: { a: port, b: port },
  outputs: { y: port },
  attributes: noAttributes,
  infer(_attrs, { a, b }) {
    checkSame('add', a!.shape, b!.shape, 'b')
    return { y: a! }
  },
  gradient: { a: { input: ({ dOutputs }) => dOutputs.y! }, b: { input: ({ dOutputs }) => dOutputs.y! } },
  reference: (_call, { a, b }) => ({ y: a!.map((v, i) => v + b![i]!) }),
  tolerance: (_call, _inputs, expected) => ({ y: rounded(expected.y!) }),
  flops: ({ outputs }) => elementCount(outputs.y!.shape),
  cases: pairCases,
})

/** y = a * b, equal shapes. */
export const mul = defineOp<None>({
  name: 'mul',
  summary: 'y = a * b',
  inputs: { a: port, b: port },
  outputs: { y: port },
  attributes: noAttributes,
  infer(_attrs, { a, b }) {
    checkSame('mul', a!.shape, b!.shape, 'b')
    return { y: a! }
  },
  gradient: {
    a: { input: ({ g, inputs, dOutputs }) => g.op('mul', {}, { a: dOutputs.y, b: inputs.b }).y! },
    b: { input: ({ g, inputs, dOutputs }) => g.op('mul', {}, { a: dOutputs.y, b: inputs.a }).y! },
  },
  reference: (_call, { a, b }) => ({ y: a!.map((v, i) => v * b![i]!) }),
  tolerance: (_call, _inputs, expected) => ({ y: rounded(expected.y!) }),
  flops: ({ outputs }) => elementCount(outputs.y!.shape),
  cases: [
    ...pairCases,
    {
      name: 'underflow',
      attrs: {},
      inputs: { a: values([4], [1e-30, -1e-20, 1e-19, 0]), b: values([4], [1e-15, 1e-18, 1e-19, -3]) },
    },
  ],
})

/** y = accumulator + x, written over the accumulator. */
export const accumulate = defineOp<None>({
  name: 'accumulate',
  summary: 'accumulator += x',
  inputs: { accumulator: port, x: port },
  outputs: { y: port },
  attributes: noAttributes,
  infer(_attrs, { accumulator, x }) {
    checkSame('accumulate', accumulator!.shape, x!.shape, 'x')
    return { y: accumulator! }
  },
  inPlace: { y: 'accumulator' },
  gradient: { none: 'it builds gradients; use add in a forward graph' },
  reference: (_call, { accumulator, x }) => ({ y: accumulator!.map((v, i) => v + x![i]!) }),
  tolerance: (_call, _inputs, expected) => ({ y: rounded(expected.y!) }),
  flops: ({ outputs }) => elementCount(outputs.y!.shape),
  cases: [
    { name: 'one', attrs: {}, inputs: { accumulator: normal([1]), x: normal([1]) } },
    { name: 'prime', attrs: {}, inputs: { accumulator: normal([3, 37]), x: normal([3, 37]) } },
    { name: 'vectors', attrs: {}, inputs: { accumulator: normal([9, 32], 1e3), x: normal([9, 32]) } },
    {
      name: 'same_tensor',
      attrs: {},
      inputs: { accumulator: normal([8]), x: same(normal([8]), 'accumulator') },
    },
  ],
})
