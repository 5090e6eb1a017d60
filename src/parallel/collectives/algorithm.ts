import type { GroupAttributes } from '../../ops/collectives/group.ts'
import type { NodeBuilder, Value } from '../../ops/contract.ts'

/** A collective to be written as exchanges and sums. */
export interface CollectiveCall extends GroupAttributes {
  readonly g: NodeBuilder
  /** Own member number. Steps that depend on it make a program for this member alone. */
  readonly self: number
}

type Lower = (call: CollectiveCall, x: Value) => Value

/** One way to carry out collectives; one file each. What it does not have, `direct` does. */
export interface CollectiveAlgorithm {
  readonly name: string
  readonly all_reduce?: Lower
  readonly reduce_scatter?: Lower
  readonly all_gather?: Lower
  readonly all_to_all?: Lower
  readonly rank_broadcast?: (call: CollectiveCall & { readonly root: number }, x: Value) => Value
}

export type CollectiveKind = Exclude<keyof CollectiveAlgorithm, 'name'>
