import { check } from '../../errors.ts'
import { elementCount } from '../../tensor/type.ts'
import type { CollectiveAlgorithm, CollectiveCall, Round } from './algorithm.ts'
import { direct } from './direct.ts'
import { count, exchange, gather, type Part, partsOf, sum, swap } from './messages.ts'

/**
 * By node, for links within a node that are faster than those between nodes: sums are made within nodes first, what is
 * gathered is shared within nodes last. Members k L to k L + L - 1 of the group are those of node k; the teams that talk
 * are picked among the group's own members, so no further group is needed. Cost for n = N L members and B bytes a
 * member, in steps, bytes within the node and bytes between nodes, sent by each:
 *
 *     all_reduce       4 steps, 2 (L-1)/L B, 2 (N-1)/n B
 *     reduce_scatter   2 steps, (L-1)/L B, (N-1)/n B
 *     all_gather       2 steps, (L-1) N B, (N-1) B
 *
 * so 1/L of what `direct` sends over the links between nodes. After Jia et al. 2018, arXiv 1807.11205, but with one
 * leader for every part instead of one for every node.
 *
 * Sums: member order within each node, then node order: (x[0] + … + x[L-1]) + (x[L] + … + x[2L-1]) + …, by the member
 * that owns the element. The order depends on n and L only, except that an all_reduce of fewer than n elements is
 * `direct`'s. So is everything in a group within one node or with nodes of one member, which has no second level.
 *
 * @param nodeSize L, members of one node; a group of more has whole nodes
 */
export const hierarchical = (nodeSize: number): CollectiveAlgorithm => ({
  name: `hierarchical(${nodeSize})`,
  memberOrder: false,

  all_reduce: {
    lower(call, x) {
      const elements = elementCount(x.type.shape)
      if (isFlat(call.size, nodeSize) || elements < call.size) return direct.all_reduce.lower(call, x)
      const { node, local, within, across } = placeOf(call, nodeSize)
      const vector = (...shape: number[]) => ({ ...x.type, shape })

      const parts = partsOf(elements, nodeSize)
      const own = parts[local]!.bytes / 4
      const inNode = sum(call, swap(call, within, x, parts, vector(nodeSize, own)))

      const pieces = partsOf(own, across.length)
      const piece = pieces[node]!.bytes / 4
      const total = sum(call, swap(call, across, inNode, pieces, vector(across.length, piece)))

      const part = gather(call, across, total, vector(own), pieces)
      return gather(call, within, part, x.type, parts)
    },
    rounds(call, bytes) {
      const { size } = call
      const elements = bytes / 4
      if (isFlat(size, nodeSize) || elements < size) return direct.all_reduce.rounds(call, bytes)
      const { within, across } = teamsOf(size, nodeSize)
      const part = Math.ceil(elements / nodeSize)
      return [
        toOwners(within, elements),
        toOwners(across, part),
        toAll(across, 4 * Math.ceil(part / across[0]!.length)),
        toAll(within, 4 * part),
      ]
    },
  },

  /** The parts of all members with one local number lie L parts apart. */
  reduce_scatter: {
    lower(call, x) {
      const { size } = call
      if (isFlat(size, nodeSize)) return direct.reduce_scatter.lower(call, x)
      const { within, across } = placeOf(call, nodeSize)
      const [rows, ...rest] = x.type.shape
      const stacked = (n: number, ...more: number[]) => ({
        ...x.type,
        shape: [n, ...more, rows! / size, ...rest],
      })
      const nodes = across.length
      const parts = partsOf(elementCount(x.type.shape), size)
      const byNode = exchange(
        call,
        { x },
        { y: stacked(nodeSize, nodes) },
        {
          sends: within.flatMap((peer, l) => everyNode(l, parts, nodeSize, peer, 'x')),
          receives: parts.map((part, i) => ({ peer: within[Math.floor(i / nodes)]!, port: 'y', ...part })),
        },
      ).y!
      const inNode = sum(call, byNode)
      return sum(call, swap(call, across, inNode, parts.slice(0, nodes), stacked(nodes)))
    },
    rounds(call, bytes) {
      const { size } = call
      if (isFlat(size, nodeSize)) return direct.reduce_scatter.rounds(call, bytes)
      const { within, across } = teamsOf(size, nodeSize)
      return [toAll(within, bytes / nodeSize), toAll(across, bytes / size)]
    },
  },

  all_gather: {
    lower(call, x) {
      const { size } = call
      if (isFlat(size, nodeSize)) return direct.all_gather.lower(call, x)
      const { within, across } = placeOf(call, nodeSize)
      const [rows, ...rest] = x.type.shape
      const stacked = (n: number) => ({ ...x.type, shape: [rows! * n, ...rest] })
      const nodes = across.length
      const parts = partsOf(elementCount(x.type.shape) * size, size)
      const own = gather(call, across, x, stacked(nodes), parts.slice(0, nodes))
      return exchange(
        call,
        { x: own },
        { y: stacked(size) },
        {
          sends: within.flatMap((peer) =>
            parts.slice(0, nodes).map((part) => ({ peer, port: 'x', ...part })),
          ),
          receives: within.flatMap((peer, l) => everyNode(l, parts, nodeSize, peer, 'y')),
        },
      ).y!
    },
    rounds(call, bytes) {
      const { size } = call
      if (isFlat(size, nodeSize)) return direct.all_gather.rounds(call, bytes)
      const { within, across } = teamsOf(size, nodeSize)
      return [toAll(across, bytes), toAll(within, (size / nodeSize) * bytes)]
    },
  },
})

/** Messages with the parts that belong to local number l of every node. */
const everyNode = (l: number, parts: readonly Part[], nodeSize: number, peer: number, port: string) =>
  parts.filter((_, i) => i % nodeSize === l).map((part) => ({ peer, port, ...part }))

/** Whether there is only one level. */
function isFlat(size: number, nodeSize: number): boolean {
  check(
    size <= nodeSize || size % nodeSize === 0,
    'invalid_argument',
    () =>
      `hierarchical: expected a group within one node or of whole nodes of ${nodeSize} members, got ${size} members`,
  )
  return size <= nodeSize || nodeSize === 1
}

/** All nodes, and for each local number the members that have it. */
function teamsOf(size: number, nodeSize: number): Record<'within' | 'across', number[][]> {
  const nodes = size / nodeSize
  return {
    within: count(nodes).map((node) => count(nodeSize).map((local) => node * nodeSize + local)),
    across: count(nodeSize).map((local) => count(nodes).map((node) => node * nodeSize + local)),
  }
}

/** Where the member is, and the two teams it is in. */
function placeOf({ self, size }: CollectiveCall, nodeSize: number) {
  const [node, local] = [Math.floor(self / nodeSize), self % nodeSize]
  const { within, across } = teamsOf(size, nodeSize)
  return { node, local, within: within[node]!, across: across[local]! }
}

type Teams = readonly (readonly number[])[]

const toAll = (teams: Teams, bytes: number): Round => ({ times: 1, bytes, messages: { teams } })

/** Who owns the smallest part sends the most, as all others' parts leave. */
const toOwners = (teams: Teams, elements: number): Round => {
  const n = teams[0]!.length
  return toAll(teams, (4 * (elements - Math.floor(elements / n))) / (n - 1))
}
