import { z } from 'zod'
import { elementCount, tensorType } from '../tensor/type.ts'
import { normal, values } from './cases.ts'
import { type CaseInput, defineOp } from './contract.ts'
import { exact } from './tolerance.ts'

const targets = ['q8_0', 'q4_0'] as const

/** x in a block format: the very bytes that the format's encoder in tensor/format.ts gives for the same f32 values. */
export const quantize = defineOp<{ to: (typeof targets)[number] }>({
  name: 'quantize',
  summary: 'y = x in blocks of 32 with one f16 scale each, quants rounded to nearest even',
  inputs: { x: { doc: '[..., K], K a multiple of 32', formats: ['f32'] } },
  outputs: { y: { doc: '[..., K]', formats: targets } },
  attributes: z.strictObject({ to: z.enum(targets) }),
  infer: ({ to }, { x }) => ({ y: tensorType(to, ...x!.shape) }),
  gradient: { none: 'rounding to a grid has no useful gradient' },
  // Encoding the output to its format is the quantization.
  reference: (_call, { x }) => ({ y: x!.slice() }),
  tolerance: () => ({ y: exact }),
  flops: ({ inputs }) => 25 * elementCount(inputs.x!.shape),
  cases: targets.flatMap((to) =>
    Object.entries(caseInputs(to === 'q8_0' ? 127 : -8)).map(([name, x]) => ({
      name: `${to}_${name}`,
      attrs: { to },
      inputs: { x },
    })),
  ),
})

/** Inputs for both formats; `last` is the quotient of the element of largest magnitude. */
function caseInputs(last: number): Record<string, CaseInput> {
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
