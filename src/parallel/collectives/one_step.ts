import { elementCount } from '../../tensor/type.ts'
import type { CollectiveAlgorithm } from './algorithm.ts'
import { count, gather, partsOf, sum } from './messages.ts'

/**
 * Sum in a single step: everyone gives all of x to everyone and adds up what came. 1 step and (n-1) B bytes sent by each
 * of n members, where `direct` takes 2 steps and 2 (n-1)/n B: for two members never worse, for more of them where latency
 * decides, as for the few rows of a decode step.
 *
 * Sums: ((x0 + x1) + x2) + … in member order for every element, by every member: the bytes of `direct`.
 */
export const oneStep = {
  name: 'one_step',
  memberOrder: true,

  all_reduce: {
    lower(call, x) {
      const { size } = call
      const type = { ...x.type, shape: [size, ...x.type.shape] }
      return sum(call, gather(call, count(size), x, type, partsOf(elementCount(type.shape), size)))
    },
    rounds: ({ size }, bytes) => [{ times: 1, bytes, messages: { teams: [count(size)] } }],
  },
} satisfies CollectiveAlgorithm
