import { z } from 'zod'
import { check } from '../errors.ts'
import { type FormatName, weightFormats } from '../tensor/format.ts'
import { sameShape } from '../tensor/type.ts'
import { normal, values } from './cases.ts'
import { defineOp } from './contract.ts'
import { exact } from './tolerance.ts'

const transposable: readonly FormatName[] = ['e4m3_128', 'mxfp8', 'nvfp4']

const destination = (format: (typeof weightFormats)[number], shape: readonly number[]) =>
  values(shape, [1], format)

type StoreAttributes = {
  /** Write x^T, with blocks along x's columns: as quantize has it, for its formats with float quants. */
  readonly transpose?: boolean | undefined
}

/**
 * Writes x over a tensor that exists already, rounded or quantized to its format: how trained parameters are
 * published into the weights that an inference program or the passes of a training step read, without leaving the
 * device.
 */
export const store = defineOp<StoreAttributes>({
  name: 'store',
  summary: 'destination = x, or x^T, in the format of destination, rounded as cast and quantize do',
  inputs: {
    destination: { doc: '[...]', formats: weightFormats },
    x: { doc: '[...]', formats: ['f32'] },
  },
  outputs: { y: { doc: '[...]', formats: weightFormats } },
  inPlace: { y: 'destination' },
  attributes: z.strictObject({ transpose: z.boolean().optional() }),
  infer({ transpose }, { destination, x }) {
    const { shape, format } = destination!
    check(
      !transpose || (shape.length === 2 && transposable.includes(format)),
      'unsupported',
      () =>
        `store: a matrix is transposed into ${transposable.join(', ')}, not into ${format} [${shape}]; transpose x before`,
    )
    const wanted = transpose ? [...shape].reverse() : shape
    check(
      sameShape(wanted, x!.shape),
      'invalid_shape',
      () =>
        `store: destination [${shape}]${transpose ? ', transposed,' : ''} needs x [${wanted}], got [${x!.shape}]`,
    )
    return { y: destination! }
  },
  gradient: { none: 'it overwrites a parameter' },
  // Encoding the output to its format is the rounding.
  reference({ attrs, inputs }, { x }) {
    if (!attrs.transpose) return { y: x!.slice() }
    const [rows, columns] = inputs.x!.shape as [number, number]
    return { y: x!.map((_, i) => x![(i % rows) * columns + Math.floor(i / rows)]!) }
  },
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
    {
      name: 'e4m3_128_transposed',
      attrs: { transpose: true },
      inputs: { destination: destination('e4m3_128', [36, 128]), x: normal([128, 36]) },
    },
  ],
})
