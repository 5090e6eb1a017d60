import { z } from 'zod'
import { check } from '../../errors.ts'
import type { TensorType } from '../../tensor/type.ts'
import { defineOp } from '../contract.ts'
import { type GroupAttributes, groupSchema, needsOtherRanks } from './group.ts'

/** Where a value crosses from one stage of a pipeline to another: there on `channel`, its gradient back on `back`. */
export interface BoundaryAttributes extends GroupAttributes {
  peer: number
  back: number
}

const boundary = groupSchema.extend({
  peer: z.number().int().nonnegative(),
  back: z.number().int().nonnegative(),
})
const common = { tolerance: () => ({}), flops: () => 0, cases: [], reference: needsOtherRanks }
const inGroup = (op: string, { peer, size }: BoundaryAttributes): void =>
  check(peer < size, 'invalid_argument', `${op}: member ${peer} of a group of ${size}`)

/** Gives x to a member of the group. Its gradient is what that member sends back. */
export const send = defineOp<BoundaryAttributes>({
  name: 'send',
  summary: "x becomes the peer's receive",
  inputs: { x: { doc: '[...]', formats: ['f32', 'u32'] } },
  outputs: {},
  attributes: boundary,
  infer(attrs) {
    inGroup('send', attrs)
    return {}
  },
  gradient: {
    x: {
      input: ({ g, attrs: { back, ...attrs }, inputs }) =>
        g.op('receive', { ...attrs, channel: back, back, type: inputs.x!.type }, {}).y!,
    },
  },
  ...common,
})

export interface ReceiveAttributes extends BoundaryAttributes {
  type: TensorType
}

/** What a member of the group sends. Its gradient is sent back. */
export const receive = defineOp<ReceiveAttributes>({
  name: 'receive',
  summary: "y = x of the peer's send",
  inputs: {},
  outputs: { y: { doc: '[...]', formats: ['f32', 'u32'] } },
  attributes: boundary.extend({
    type: z.strictObject({
      format: z.enum(['f32', 'u32']),
      shape: z.array(z.number().int().positive()).min(1),
    }),
  }),
  infer(attrs) {
    inGroup('receive', attrs)
    return { y: attrs.type }
  },
  gradient: {},
  ...common,
})

/** The node that sends a received value's gradient back. */
export const returned = ({ type: _type, back, ...attrs }: ReceiveAttributes): BoundaryAttributes => ({
  ...attrs,
  channel: back,
  back,
})
