import type { GroupAttributes } from '../../ops/collectives/group.ts'
import type { NodeBuilder, Value } from '../../ops/contract.ts'

/** A collective to be written as exchanges and sums. */
export interface CollectiveCall extends GroupAttributes {
  readonly g: NodeBuilder
  /** Own member number. Steps that depend on it make a program for this member alone. */
  readonly self: number
}

/** Member numbers: who sends to whom. */
export type Pair = readonly [from: number, to: number]

/**
 * Messages of a collective that take place together. Members send along `pairs`, or each to all others of its own one
 * of `teams`.
 */
export interface Round {
  /** How many rounds like this one follow each other. */
  readonly times: number
  /** Bytes of one message; where a member's differ, the mean of the member that sends the most. */
  readonly bytes: number
  readonly messages: { readonly pairs: readonly Pair[] } | { readonly teams: readonly (readonly number[])[] }
}

/** How one kind of collective is carried out, and which messages that takes. */
export interface Collective<Call = CollectiveCall> {
  readonly lower: (call: Call, x: Value) => Value
  /** @param bytes of one member's x */
  readonly rounds: (call: Omit<Call, 'g' | 'self' | 'group' | 'channel'>, bytes: number) => readonly Round[]
}

/** One way to carry out collectives; one file each. What it does not have, `direct` does. */
export interface CollectiveAlgorithm {
  readonly name: string
  /** Whether every sum is ((x0 + x1) + x2) + … in member order, whatever the group and the tensor's size. */
  readonly memberOrder: boolean
  readonly all_reduce?: Collective
  readonly reduce_scatter?: Collective
  readonly all_gather?: Collective
  readonly all_to_all?: Collective
  readonly rank_broadcast?: Collective<CollectiveCall & { readonly root: number }>
}

export type CollectiveKind = Exclude<keyof CollectiveAlgorithm, 'name' | 'memberOrder'>
