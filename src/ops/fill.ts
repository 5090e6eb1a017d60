import { z } from 'zod'
import { check } from '../errors.ts'
import { formatOf } from '../tensor/format.ts'
import { integers, normal } from './cases.ts'
import { defineOp } from './contract.ts'
import { exact } from './tolerance.ts'

/** Every element of x becomes `value` (rounded to f32, or an integer in [0, 2^32) for u32), in place. */
export const fill = defineOp<{ value: number }>({
  name: 'fill',
  summary: 'x = value',
  inputs: { x: { doc: '[...]', formats: ['f32', 'u32'] } },
  outputs: { y: { doc: '[...]', formats: ['f32', 'u32'] } },
  attributes: z.strictObject({ value: z.number() }),
  infer({ value }, { x }) {
    const inRange =
      x!.format === 'u32'
        ? Number.isInteger(value) && value >= 0 && value < 2 ** 32
        : Number.isFinite(Math.fround(value))
    check(
      inRange,
      'invalid_argument',
      () => `fill: value must be a number that ${x!.format} can hold, got ${value}`,
    )
    return { y: x! }
  },
  inPlace: { y: 'x' },
  gradient: { none: 'it overwrites its input' },
  reference({ attrs, inputs }, { x }) {
    const { encode, decode } = formatOf(inputs.x!.format)
    return { y: x!.map(() => decode(encode([attrs.value]), 1)[0]!) }
  },
  tolerance: () => ({ y: exact }),
  flops: () => 0,
  cases: [
    { name: 'one', attrs: { value: 0 }, inputs: { x: normal([1]) } },
    { name: 'prime', attrs: { value: -0.1 }, inputs: { x: normal([3, 37]) } },
    { name: 'past_workgroup', attrs: { value: 0 }, inputs: { x: normal([1028]) } },
    { name: 'u32', attrs: { value: 0xffffffff }, inputs: { x: integers([66], 0, 100) } },
  ],
})
