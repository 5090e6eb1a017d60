import { z } from 'zod'
import { check, ExactmapError } from '../../errors.ts'
import { type FormatName, formats } from '../../tensor/format.ts'
import { byteSize, showType, type TensorType } from '../../tensor/type.ts'
import { defineOp } from '../contract.ts'

const format = z.enum(Object.keys(formats) as [FormatName, ...FormatName[]])
const type = z.strictObject({ format, shape: z.array(z.number().int().positive()).min(1) })
const count = z.number().int().nonnegative()
const part = { peer: count, port: z.string(), offset: count, bytes: z.number().int().positive() }

export interface ExchangeAttributes {
  /** Group of ranks and how many they are. */
  group: string
  size: number
  channel: number
  /** Bytes of an input that go to a member. */
  sends: { peer: number; port: string; offset: number; bytes: number }[]
  /** Bytes of an output that come from a member. */
  receives: { peer: number; port: string; offset: number; bytes: number }[]
  outputs: Record<string, TensorType>
}

const anyFormat = Object.keys(formats) as FormatName[]

/**
 * Messages between the ranks of a group that take place together: what every collective is made of. Compiled to an
 * `exchange` step (src/program/program.ts), not to a kernel. A message to the own member number is a copy. With an
 * input `onto`, output y is written over it and keeps the bytes that no message brings.
 */
export const exchange = defineOp<ExchangeAttributes>({
  name: 'exchange',
  summary: 'bytes of the inputs go to members of a group, bytes of the outputs come from them',
  inputs: {},
  anyInputs: { doc: '[...]', formats: anyFormat },
  outputs: {},
  inPlace: { y: 'onto' },
  attributes: z.strictObject({
    group: z.string().min(1),
    size: z.number().int().positive(),
    channel: count,
    sends: z.array(z.strictObject(part)),
    receives: z.array(z.strictObject(part)),
    outputs: z.record(z.string(), type),
  }),
  infer({ size, sends, receives, outputs }, inputs) {
    const verify = (types: Readonly<Record<string, TensorType>>, list: typeof sends, what: string): void => {
      for (const { peer, port, offset, bytes } of list) {
        check(peer < size, 'invalid_argument', `exchange: member ${peer} of a group of ${size}`)
        const of = types[port]
        check(of, 'invalid_argument', `exchange: no ${what} '${port}'`)
        check(
          offset + bytes <= byteSize(of) && offset % 4 === 0 && bytes % 4 === 0,
          'invalid_shape',
          `exchange: bytes ${offset} to ${offset + bytes} of ${what} '${port}', which has ${byteSize(of)}; both must be multiples of 4`,
        )
      }
    }
    verify(inputs, sends, 'input')
    verify(outputs, receives, 'output')
    const { onto } = inputs
    const y = outputs.y && showType(outputs.y)
    check(
      !onto || showType(onto) === y,
      'invalid_shape',
      () => `exchange: output 'y' must be ${showType(onto!)} like input 'onto', got ${y ?? 'none'}`,
    )
    return outputs
  },
  gradient: { none: 'collectives have gradients, and become exchanges after those are taken' },
  reference() {
    throw new ExactmapError('unsupported', 'exchange: what it gives depends on the other ranks')
  },
  tolerance: () => ({}),
  flops: () => 0,
  cases: [],
})
