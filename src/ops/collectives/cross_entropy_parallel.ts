import { defineOp, type Gradient } from '../contract.ts'
import { cross_entropy } from '../cross_entropy.ts'
import { type GroupAttributes, groupSchema, needsOtherRanks } from './group.ts'

/**
 * Cross entropy where every member of a group has a part of the vocabulary: the part's logits, and targets relative to
 * the part (a target that is not below V belongs to another member). Loss and lse are the same on every member, and
 * the gradient of the own logits needs no further message. Shoeybi et al. 2019, arXiv 1909.08053, section 3.
 */
export const cross_entropy_parallel = defineOp<GroupAttributes>({
  name: 'cross_entropy_parallel',
  summary: 'cross_entropy over the logits of all members side by side',
  source: 'Megatron-LM, arXiv 1909.08053',
  inputs: cross_entropy.inputs,
  outputs: cross_entropy.outputs,
  attributes: groupSchema,
  infer: (_attrs, inputs) => cross_entropy.infer({}, inputs),
  // With the lse over all members, the gradient of the own logits is that of a single rank.
  gradient: cross_entropy.gradient as Gradient<GroupAttributes>,
  reference: needsOtherRanks,
  tolerance: () => ({}),
  flops: (call) => cross_entropy.flops({ ...call, attrs: {} }),
  cases: [],
})
