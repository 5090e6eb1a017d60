import { z } from 'zod'
import { check } from '../../errors.ts'
import { elementCount, type TensorType } from '../../tensor/type.ts'
import { defineOp, type OpContract } from '../contract.ts'
import { type GroupAttributes, groupSchema, needsOtherRanks } from './group.ts'

const f32 = ['f32'] as const
const common = { tolerance: () => ({}), flops: () => 0, cases: [], reference: needsOtherRanks }

/** The leading dim times n, or divided by it. */
function stacked(op: string, { size }: GroupAttributes, x: TensorType): TensorType {
  return checked(op, { ...x, shape: [x.shape[0]! * size, ...x.shape.slice(1)] })
}
function slice(op: string, { size }: GroupAttributes, x: TensorType): TensorType {
  check(
    x.shape[0]! % size === 0,
    'invalid_shape',
    () => `${op}: the leading dim of [${x.shape}] must be a multiple of the group's ${size} members`,
  )
  return { ...x, shape: [x.shape[0]! / size, ...x.shape.slice(1)] }
}
function checked(op: string, type: TensorType): TensorType {
  check(elementCount(type.shape) <= 2 ** 31, 'invalid_shape', () => `${op}: [${type.shape}] is too large`)
  return type
}

/** Every member's x, one after the other in member order, on every member. */
export const all_gather = defineOp<GroupAttributes>({
  name: 'all_gather',
  summary: 'y = x of member 0, of member 1, … stacked along the leading dim',
  inputs: { x: { doc: '[T, ...]', formats: ['f32', 'u32'] } },
  outputs: { y: { doc: '[n T, ...]', formats: ['f32', 'u32'] } },
  attributes: groupSchema,
  infer: (attrs, { x }) => ({ y: stacked('all_gather', attrs, x!) }),
  gradient: { x: { input: ({ g, attrs, dOutputs }) => g.op('reduce_scatter', attrs, { x: dOutputs.y }).y! } },
  ...common,
})

/** Sum over the members, of which each keeps its part; added in member order. */
export const reduce_scatter = defineOp<GroupAttributes>({
  name: 'reduce_scatter',
  summary: 'y = part number (own member) of the sum over members of x, ((x0 + x1) + x2) + …',
  inputs: { x: { doc: '[n T, ...]', formats: f32 } },
  outputs: { y: { doc: '[T, ...]', formats: f32 } },
  attributes: groupSchema,
  infer: (attrs, { x }) => ({ y: slice('reduce_scatter', attrs, x!) }),
  gradient: { x: { input: ({ g, attrs, dOutputs }) => g.op('all_gather', attrs, { x: dOutputs.y }).y! } },
  ...common,
})

/** Sum over the members, on every member the same bytes. */
export const all_reduce = defineOp<GroupAttributes>({
  name: 'all_reduce',
  summary: 'y = sum over members of x',
  inputs: { x: { doc: '[...]', formats: f32 } },
  outputs: { y: { doc: '[...]', formats: f32 } },
  attributes: groupSchema,
  infer: (_attrs, { x }) => ({ y: x! }),
  gradient: { none: 'used on gradients; models gather and scatter rows instead' },
  ...common,
})

/** Part j of every member's x goes to member j: the transpose of a matrix of parts over the members. */
export const all_to_all = defineOp<GroupAttributes>({
  name: 'all_to_all',
  summary: "y = part number (own member) of member 0's x, of member 1's, …",
  inputs: { x: { doc: '[n T, ...]', formats: ['f32', 'u32'] } },
  outputs: { y: { doc: '[n T, ...]', formats: ['f32', 'u32'] } },
  attributes: groupSchema,
  infer(attrs, { x }) {
    slice('all_to_all', attrs, x!)
    return { y: x! }
  },
  gradient: { x: { input: ({ g, attrs, dOutputs }) => g.op('all_to_all', attrs, { x: dOutputs.y }).y! } },
  ...common,
})

export interface RootAttributes extends GroupAttributes {
  root: number
}

/** One member's x, on every member. */
export const rank_broadcast: OpContract<RootAttributes> = defineOp<RootAttributes>({
  name: 'rank_broadcast',
  summary: "y = member root's x",
  inputs: { x: { doc: '[...]', formats: ['f32', 'u32'] } },
  outputs: { y: { doc: '[...]', formats: ['f32', 'u32'] } },
  attributes: groupSchema.extend({ root: z.number().int().nonnegative() }),
  infer({ root, size }, { x }) {
    check(root < size, 'invalid_argument', `rank_broadcast: root ${root} of a group of ${size}`)
    return { y: x! }
  },
  gradient: { none: 'used on step inputs and weights' },
  ...common,
})
