import { z } from 'zod'
import { check } from '../errors.ts'
import { formatOf } from '../tensor/format.ts'
import { tensorType } from '../tensor/type.ts'
import { normal, values } from './cases.ts'
import { defineOp } from './contract.ts'
import { readFrom } from './tolerance.ts'

const targets = ['f32', 'f16', 'bf16', 'e4m3'] as const
const blocks = ['q8_0', 'q4_0', 'e4m3_128', 'mxfp8', 'nvfp4'] as const

/** Around every branch of rounding to fewer bits: ties, subnormals, what underflows, what overflows, infinity. */
const EDGES = [
  0,
  -0,
  1,
  -1,
  1 + 2 ** -11,
  1 + 3 * 2 ** -11,
  1 + 2 ** -9,
  1 + 2 ** -8,
  1 + 3 * 2 ** -9,
  2049,
  2051,
  65504,
  65519,
  65520,
  -65520,
  1e6,
  3.4e38,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  2 ** -14,
  2 ** -14 - 2 ** -26,
  2 ** -24,
  2 ** -25,
  2 ** -25 + 2 ** -40,
  3 * 2 ** -25,
  -5 * 2 ** -25,
  2 ** -26,
  1e-30,
  1e-42,
  -1e-45,
  0.1,
  1 / 3,
  Math.PI,
]

/** Those of e4m3: ties of its normal numbers, the largest, what rounds to it, past it; its subnormals of 2^-9. */
const E4M3_EDGES = [
  ...EDGES,
  17 / 16,
  -19 / 16,
  432,
  448,
  464,
  -465,
  2 ** -9,
  2 ** -10,
  2 ** -10 + 2 ** -30,
  3 * 2 ** -10,
  -15 * 2 ** -10,
  2 ** -6 - 2 ** -20,
  Number.NaN,
]

/**
 * The same numbers in another float format, rounded to nearest even; past the largest f16 comes infinity, past the
 * largest e4m3 that one again. Numbers of a block format become f32: the way back is quantize.
 */
export const cast = defineOp<{ to: (typeof targets)[number] }>({
  name: 'cast',
  summary: 'y = x rounded to `to`, ties to even',
  inputs: { x: { doc: '[...]', formats: [...targets, ...blocks] } },
  outputs: { y: { doc: '[...]', formats: targets } },
  attributes: z.strictObject({ to: z.enum(targets) }),
  infer({ to }, { x }) {
    check(
      to === 'f32' || formatOf(x!.format).blockSize === 1,
      'unsupported',
      () => `cast: x in ${x!.format} can become f32, not ${to}; cast that to ${to}`,
    )
    return { y: tensorType(to, ...x!.shape) }
  },
  gradient: { none: 'gradients are taken of f32 graphs; recipes cast afterwards' },
  // Encoding the output to its format is the rounding.
  reference: (_call, { x }) => ({ y: x!.slice() }),
  tolerance: ({ inputs }, _inputs, { y }) => ({
    y: readFrom(inputs.x!.format, y!),
  }),
  flops: () => 0,
  cases: [
    { name: 'one_f16', attrs: { to: 'f16' }, inputs: { x: normal([1]) } },
    { name: 'f32_f16', attrs: { to: 'f16' }, inputs: { x: values([EDGES.length], EDGES) } },
    { name: 'f32_bf16', attrs: { to: 'bf16' }, inputs: { x: values([EDGES.length], EDGES) } },
    { name: 'f16_f32', attrs: { to: 'f32' }, inputs: { x: values([EDGES.length], EDGES, 'f16') } },
    { name: 'bf16_f32', attrs: { to: 'f32' }, inputs: { x: values([EDGES.length], EDGES, 'bf16') } },
    { name: 'bf16_f16', attrs: { to: 'f16' }, inputs: { x: values([EDGES.length], EDGES, 'bf16') } },
    { name: 'f16_bf16', attrs: { to: 'bf16' }, inputs: { x: values([EDGES.length], EDGES, 'f16') } },
    { name: 'f32_f32', attrs: { to: 'f32' }, inputs: { x: values([EDGES.length], EDGES) } },
    { name: 'f32_e4m3', attrs: { to: 'e4m3' }, inputs: { x: values([E4M3_EDGES.length], E4M3_EDGES) } },
    {
      name: 'f16_e4m3',
      attrs: { to: 'e4m3' },
      inputs: { x: values([E4M3_EDGES.length], E4M3_EDGES, 'f16') },
    },
    {
      name: 'bf16_e4m3',
      attrs: { to: 'e4m3' },
      inputs: { x: values([E4M3_EDGES.length], E4M3_EDGES, 'bf16') },
    },
    ...(['f32', 'f16', 'bf16'] as const).map((to) => ({
      name: `e4m3_${to}`,
      attrs: { to },
      inputs: { x: values([E4M3_EDGES.length], E4M3_EDGES, 'e4m3') },
    })),
    ...blocks.map((format) => ({
      name: `${format}_f32`,
      attrs: { to: 'f32' as const },
      inputs: { x: normal([3, 128], 3, format) },
    })),
    { name: 'past_workgroup', attrs: { to: 'f16' }, inputs: { x: normal([3, 86]) } },
    { name: 'f16_subnormals', attrs: { to: 'f16' }, inputs: { x: normal([4, 64], 2 ** -18) } },
    { name: 'rows_bf16', attrs: { to: 'bf16' }, inputs: { x: normal([4, 64], 100) } },
  ],
})
