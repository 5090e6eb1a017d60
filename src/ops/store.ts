import { z } from 'zod'
import { check } from '../errors.ts'
import { weightFormats } from '../tensor/format.ts'
import { sameShape } from '../tensor/type.ts'
import { normal, values } from './cases.ts'
import { defineOp } from './contract.ts'
import { exact } from './tolerance.ts'

const destination = (format: (typeof weightFormats)[number], shape: readonly number[]) =>
  values(shape, [1], format)

/**
 * Writes x over a tensor that exists already, rounded or quantized to its format: how trained parameters are
 * published into the weights an inference program reads, without leaving the device.
 */
export const store = defineOp<Record<string, never>>({
  name: 'store',
  summary: 'destination = x in the format of destination, rounded as cast and quantize do',
  inputs: {
    destination: { doc: '[...]', formats: weightFormats },
    x: { doc: '[...]', formats: ['f32'] },
  },
  outputs: { y: { doc: '[...]', formats: weightFormats } },
  inPlace: { y: 'destination' },
  attributes: z.strictObject({}),
  infer(_attrs, { destination, x }) {
    check(
      sameShape(destination!.shape, x!.shape),
      'invalid_shape',
      () => `store: x must be [${destination!.shape}] as the destination, got [${x!.shape}]`,
    )
    return { y: destination! }
  },
  gradient: { none: 'it overwrites a parameter' },
  // Encoding the output to its format is the rounding.
  reference: (_call, { x }) => ({ y: x!.slice() }),
  tolerance: () => ({ y: exact }),
  flops: () => 0,
  cases: [
    ...(['f32', 'f16', 'bf16'] as const).flatMap((format) => [
      { name: `${format}_one`, attrs: {}, inputs: { destination: destination(format, [1]), x: normal([1]) } },
      {
        name: `${format}_rows`,
        attrs: {},
        inputs: { destination: destination(format, [5, 37]), x: normal([5, 37], 1e-3) },
      },
    ]),
    ...(['q8_0', 'q4_0'] as const).map((format) => ({
      name: `${format}_rows`,
      attrs: {},
      inputs: { destination: destination(format, [3, 64]), x: normal([3, 64]) },
    })),
    ...(['e4m3_128', 'mxfp8', 'nvfp4'] as const).map((format) => ({
      name: `${format}_rows`,
      attrs: {},
      inputs: { destination: destination(format, [3, 128]), x: normal([3, 128]) },
    })),
  ],
})
