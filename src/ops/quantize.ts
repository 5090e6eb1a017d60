import { z } from 'zod'
import { check } from '../errors.ts'
import { formatOf } from '../tensor/format.ts'
import { elementCount, lastDim, rowCount, tensorType } from '../tensor/type.ts'
import { normal, values } from './cases.ts'
import { type CaseInput, defineOp } from './contract.ts'
import { exact } from './tolerance.ts'

const integers = ['q8_0', 'q4_0'] as const
const floats = ['e4m3_128', 'mxfp8', 'nvfp4'] as const
const targets = [...integers, ...floats] as const

type QuantizeAttributes = {
  readonly to: (typeof targets)[number]
  /** Quantize x^T: blocks lie along x's columns. */
  readonly transpose?: boolean | undefined
}

/**
 * x in a block format: the very bytes that the format's encoder in tensor/format.ts gives for the same f32 values. With
 * `transpose`, those of the transposed matrix: both operands of a product in blocks must have them along the reduction,
 * which for gradients runs along the rows of x.
 */
export const quantize = defineOp<QuantizeAttributes>({
  name: 'quantize',
  summary: 'y = x, or x^T, in blocks with a scale each, quants rounded to nearest even',
  inputs: {
    x: {
      doc: '[..., K], K (the rows with `transpose`) a multiple of the block',
      formats: ['f32', 'f16', 'bf16'],
    },
  },
  outputs: { y: { doc: '[..., K]; [K, rows] with `transpose`', formats: targets } },
  attributes: z.strictObject({ to: z.enum(targets), transpose: z.boolean().optional() }),
  infer({ to, transpose }, { x }) {
    if (!transpose) return { y: tensorType(to, ...x!.shape) }
    check(
      !(integers as readonly string[]).includes(to),
      'unsupported',
      () => `quantize: ${to} is for weights as they are; transpose x into ${floats.join(', ')}`,
    )
    const rows = rowCount(x!.shape)
    const { blockSize } = formatOf(to)
    check(
      rows % blockSize === 0,
      'invalid_shape',
      () => `quantize: ${to} of x^T needs a multiple of ${blockSize} rows of x, got ${rows}`,
    )
    return { y: tensorType(to, lastDim(x!.shape), rows) }
  },
  gradient: { none: 'rounding to a grid has no useful gradient' },
  // Encoding the output to its format is the quantization.
  reference({ inputs, attrs }, { x }) {
    if (!attrs.transpose) return { y: x!.slice() }
    const [rows, columns] = [rowCount(inputs.x!.shape), lastDim(inputs.x!.shape)]
    return { y: x!.map((_, i) => x![(i % rows) * columns + Math.floor(i / rows)]!) }
  },
  tolerance: () => ({ y: exact }),
  flops: ({ inputs }) => 25 * elementCount(inputs.x!.shape),
  cases: [
    ...integers.flatMap((to) =>
      Object.entries(integerInputs(to === 'q8_0' ? 127 : -8)).map(([name, x]) => ({
        name: `${to}_${name}`,
        attrs: { to },
        inputs: { x },
      })),
    ),
    ...floats.flatMap((to) =>
      Object.entries(floatInputs(formatOf(to).blockSize)).map(([name, x]) => ({
        name: `${to}_${name}`,
        attrs: { to },
        inputs: { x },
      })),
    ),
    ...floats.flatMap((to) =>
      Object.entries(transposedInputs(formatOf(to).blockSize)).map(([name, x]) => ({
        name: `${to}_transposed_${name}`,
        attrs: { to, transpose: true },
        inputs: { x },
      })),
    ),
  ],
})

/** Inputs for formats with e4m3 or E2M1 quants in blocks of this size. */
function floatInputs(block: number): Record<string, CaseInput> {
  return {
    one_block: normal([block]),
    odd_blocks: normal([3, block]),
    rows_bf16: normal([5, 2 * block], 0.05, 'bf16'),
    rows_f16: normal([2, 3, block], 3, 'f16'),
    zeros: values([2, block], [0, -0]),
    // Scales of 1, and ties of every kind.
    ties: values(
      [2 * block],
      [448, 6, -0.25, 0.75, 1.25, -1.75, 2.5, 3.5, -5, 17, -19, 1 / 128, 3 / 1024, 464 / 2],
    ),
    tiny: normal([2, block], 1e-40),
    vanishing_scale: normal([4, block], 3e-28),
    large: normal([2, block], 1e37),
  }
}

function transposedInputs(block: number): Record<string, CaseInput> {
  return {
    one: normal([block, 1]),
    past_tile: normal([2, block, 37]),
    bf16: normal([3 * block, 16], 1, 'bf16'),
  }
}

/** Inputs for formats of integer quants; `last` is the quotient of the element of largest magnitude. */
function integerInputs(last: number): Record<string, CaseInput> {
  const low = last < 0 ? last : -last
  // A scale of exactly 1, and every tie of the quotient.
  const ties = Array.from({ length: 31 }, (_, i) => ((i % 2 === 0 ? 1 : -1) * (2 * i + 1)) / 2).map((v) =>
    Math.max(low + 0.5, Math.min(-low - 0.5, v)),
  )
  return {
    one_block: normal([32]),
    odd_blocks: normal([3, 32]),
    rows: normal([9, 128], 0.05),
    ties: values([64], [last, ...ties]),
    zeros: values([2, 32], [0]),
    // The scale is a subnormal f16, an underflowing one, and one of the largest.
    subnormal_scale: normal([4, 32], 2e-5),
    vanishing_scale: normal([4, 32], 1e-6),
    tiny: normal([1, 64], 1e-40),
    large: normal([2, 64], 1e5),
    overflowing_scale: normal([1, 64], 3e8),
    // Two elements of equal magnitude and opposite sign: the first decides the sign of a q4_0 scale.
    equal_magnitudes: values([64], [0.5, -1, 1, 0.25, -0.125, 1, -1, 0]),
  }
}
