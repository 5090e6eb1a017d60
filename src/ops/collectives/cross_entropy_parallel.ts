import { tensorType } from '../../tensor/type.ts'
import { defineOp } from '../contract.ts'
import { checkRows } from '../cross_entropy.ts'
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
  inputs: {
    logits: { doc: '[T, V]', formats: ['f32'] },
    targets: { doc: '[T]', formats: ['u32'] },
    weights: { doc: '[T]', formats: ['f32'] },
  },
  outputs: { loss: { doc: '[T]', formats: ['f32'] }, lse: { doc: '[T], no gradient', formats: ['f32'] } },
  attributes: groupSchema,
  infer(_attrs, inputs) {
    checkRows('cross_entropy_parallel', inputs, ['targets', 'weights'])
    const rows = inputs.logits!.shape[0]!
    return { loss: tensorType('f32', rows), lse: tensorType('f32', rows) }
  },
  gradient: {
    logits: {
      input: ({ g, inputs, outputs, dOutputs }) =>
        g.op(
          'cross_entropy_backward',
          {},
          {
            dloss: dOutputs.loss,
            logits: inputs.logits,
            lse: outputs.lse,
            targets: inputs.targets,
            weights: inputs.weights,
          },
        ).dlogits!,
    },
  },
  reference: needsOtherRanks,
  tolerance: () => ({}),
  flops: ({ inputs }) => 4 * inputs.logits!.shape[0]! * inputs.logits!.shape[1]!,
  cases: [],
})
