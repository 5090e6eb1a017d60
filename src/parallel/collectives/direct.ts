import { byteSize, elementCount, type TensorType } from '../../tensor/type.ts'
import type { CollectiveAlgorithm, Round } from './algorithm.ts'
import { count, exchange, gather, partsOf, sum, swap } from './messages.ts'
import { oneStep } from './one_step.ts'

/**
 * Every member exchanges with every other one at once. All members run the same steps, so equal ranks share a program.
 * Cost for n members and B bytes a member, in steps and bytes sent by each:
 *
 *     all_reduce       2 steps, 2 (n-1)/n B; elements that n does not divide: 1 step, (n-1) B
 *     reduce_scatter, all_to_all   1 step, (n-1)/n B
 *     all_gather       1 step, (n-1) B
 *     rank_broadcast   1 step, (n-1) B from the root
 *
 * These are the fewest steps and, but for the broadcast, the fewest bytes there can be; the n-1 messages of a step need
 * a switch between all members, such as NVLink's, not a ring. Chan, Heimlich, Purkayastha, van de Geijn 2007,
 * "Collective communication: theory, practice, and experience", gives the lower bounds.
 *
 * Sums: ((x0 + x1) + x2) + … in member order for every element, by the member that owns it.
 */
export const direct = {
  name: 'direct',
  memberOrder: true,

  /** Parts to their owners, sums back; where the elements don't divide, everything to everyone. */
  all_reduce: {
    lower(call, x) {
      const { size } = call
      const elements = elementCount(x.type.shape)
      if (elements % size !== 0) return oneStep.all_reduce.lower(call, x)
      const parts = partsOf(elements, size)
      const rows = { ...x.type, shape: [size, elements / size] }
      return gather(call, count(size), sum(call, swap(call, count(size), x, parts, rows)), x.type, parts)
    },
    rounds({ size }, bytes) {
      const divides = (bytes / 4) % size === 0
      return divides ? [toAll(size, bytes / size, 2)] : oneStep.all_reduce.rounds({ size }, bytes)
    },
  },

  reduce_scatter: {
    lower(call, x) {
      const { size } = call
      const [rows, ...rest] = x.type.shape
      const type = { ...x.type, shape: [size, rows! / size, ...rest] }
      return sum(call, swap(call, count(size), x, partsOf(elementCount(x.type.shape), size), type))
    },
    rounds: ({ size }, bytes) => [toAll(size, bytes / size)],
  },

  all_gather: {
    lower(call, x) {
      const [rows, ...rest] = x.type.shape
      return stack(call, x, { ...x.type, shape: [rows! * call.size, ...rest] })
    },
    rounds: ({ size }, bytes) => [toAll(size, bytes)],
  },

  all_to_all: {
    lower: (call, x) =>
      swap(call, count(call.size), x, partsOf(elementCount(x.type.shape), call.size), x.type),
    rounds: ({ size }, bytes) => [toAll(size, bytes / size)],
  },

  /** The only one whose steps depend on the member: all but the root send nothing. */
  rank_broadcast: {
    lower({ root, self, ...call }, x) {
      const bytes = byteSize(x.type)
      return exchange(
        call,
        { x },
        { y: x.type },
        {
          sends: self === root ? count(call.size).map((peer) => ({ peer, port: 'x', offset: 0, bytes })) : [],
          receives: [{ peer: root, port: 'y', offset: 0, bytes }],
        },
      ).y!
    },
    rounds({ root, size }, bytes) {
      const others = count(size).filter((member) => member !== root)
      return [{ times: 1, bytes, messages: { pairs: others.map((to) => [root, to] as const) } }]
    },
  },
} satisfies CollectiveAlgorithm

/** Everything of every member to every member. */
export const stack = (
  call: Parameters<typeof gather>[0],
  x: Parameters<typeof gather>[2],
  type: TensorType,
): ReturnType<typeof gather> =>
  gather(call, count(call.size), x, type, partsOf(elementCount(type.shape), call.size))

const toAll = (size: number, bytes: number, times = 1): Round => ({
  times,
  bytes,
  messages: { teams: [count(size)] },
})
