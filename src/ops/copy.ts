import { z } from 'zod'
import { type FormatName, formats } from '../tensor/format.ts'
import { integers, normal, values } from './cases.ts'
import { defineOp } from './contract.ts'
import { exact } from './tolerance.ts'

const any = { doc: '[...]', formats: Object.keys(formats) as FormatName[] }

/** y = x bit for bit, any storage format. */
export const copy = defineOp<Record<string, never>>({
  name: 'copy',
  summary: 'y = x',
  inputs: { x: any },
  outputs: { y: any },
  attributes: z.strictObject({}),
  infer: (_attrs, { x }) => ({ y: x! }),
  gradient: { none: 'lowering inserts copies, after gradients are taken' },
  reference: (_call, { x }) => ({ y: x!.slice() }),
  tolerance: () => ({ y: exact }),
  flops: () => 0,
  cases: [
    { name: 'one', attrs: {}, inputs: { x: normal([1]) } },
    { name: 'prime', attrs: {}, inputs: { x: normal([3, 37], 1e20) } },
    { name: 'past_workgroup', attrs: {}, inputs: { x: integers([1028], 0, 2 ** 32) } },
    { name: 'i32', attrs: {}, inputs: { x: integers([7], -100, 100, 'i32') } },
    { name: 'f16_odd', attrs: {}, inputs: { x: values([5], [1, -6e-8, 65504, 0.1, -3], 'f16') } },
    { name: 'bf16', attrs: {}, inputs: { x: normal([2, 24], 1, 'bf16') } },
    // An odd number of blocks: 3 * 34 bytes end in half a word.
    { name: 'q8_0', attrs: {}, inputs: { x: normal([3, 32], 1, 'q8_0') } },
    { name: 'q4_0', attrs: {}, inputs: { x: normal([2, 64], 1, 'q4_0') } },
    // Bytes that end in part of a word, and a scale behind padding.
    { name: 'e4m3', attrs: {}, inputs: { x: normal([3, 7], 1, 'e4m3') } },
    { name: 'nvfp4', attrs: {}, inputs: { x: normal([3, 16], 1, 'nvfp4') } },
    // Subnormals and infinities are bits like any other.
    { name: 'bits', attrs: {}, inputs: { x: values([4], [1e-42, -1e-45, Number.POSITIVE_INFINITY, -0]) } },
  ],
})
