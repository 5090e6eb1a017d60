import { z } from 'zod'
import { tensorType } from '../tensor/type.ts'
import { normal, values } from './cases.ts'
import { defineOp } from './contract.ts'
import { exact } from './tolerance.ts'

const formats = ['f32', 'f16', 'bf16'] as const
const port = { doc: '[...]', formats }

/** Around every branch of rounding to f16 and bf16: ties, subnormals, what underflows, what overflows, infinity. */
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

/** The same numbers in another float format, rounded to nearest even; past the largest f16 comes infinity. */
export const cast = defineOp<{ to: (typeof formats)[number] }>({
  name: 'cast',
  summary: 'y = x rounded to `to`, ties to even',
  inputs: { x: port },
  outputs: { y: port },
  attributes: z.strictObject({ to: z.enum(formats) }),
  infer: ({ to }, { x }) => ({ y: tensorType(to, ...x!.shape) }),
  gradient: { none: 'gradients are kept in f32; casts are for publishing weights' },
  // Encoding the output to its format is the rounding.
  reference: (_call, { x }) => ({ y: x!.slice() }),
  tolerance: () => ({ y: exact }),
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
    { name: 'past_workgroup', attrs: { to: 'f16' }, inputs: { x: normal([3, 86]) } },
    { name: 'f16_subnormals', attrs: { to: 'f16' }, inputs: { x: normal([4, 64], 2 ** -18) } },
    { name: 'rows_bf16', attrs: { to: 'bf16' }, inputs: { x: normal([4, 64], 100) } },
  ],
})
