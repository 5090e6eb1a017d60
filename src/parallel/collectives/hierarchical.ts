import { check } from '../../errors.ts'
import { elementCount } from '../../tensor/type.ts'
import type { CollectiveAlgorithm, Round } from './algorithm.ts'
import { direct } from './direct.ts'
import { count, gather, partsOf, sum, swap } from './messages.ts'

/**
 * By node, for links within a node that are faster than those between nodes: sums of parts within the node, these
 * summed among the members of equal number in their nodes, then gathered within the node. Members k L to k L + L - 1
 * of the group are those of node k; the teams that talk are picked among the group's own members, so no further group
 * is needed. Cost for n = N L members and B bytes:
 *
 *     all_reduce       2 steps within the node, (L-1)/L B each; 2 between nodes, (N-1)/n B each
 *
 * so each member sends 1/L of what `direct` sends over the links between nodes. Jia et al. 2018, arXiv 1807.11205,
 * section 3.3; with one leader per part, not one per node.
 *
 * Sums: member order within each node, then node order: (x[0] + … + x[L-1]) + (x[L] + … + x[2L-1]) + …, by the member
 * that owns the element. The order depends on n and L only, except that fewer than n elements are summed by `direct`.
 * A group within one node, or nodes of one member, have no second level: `direct` again.
 *
 * @param nodeSize L, members of one node; a group of more has whole nodes
 */
export const hierarchical = (nodeSize: number): CollectiveAlgorithm => ({
  name: `hierarchical(${nodeSize})`,
  memberOrder: false,

  all_reduce: {
    lower(call, x) {
      const { self, size } = call
      const elements = elementCount(x.type.shape)
      if (isFlat(size, nodeSize, elements)) return direct.all_reduce.lower(call, x)
      const [node, local] = [Math.floor(self / nodeSize), self % nodeSize]
      const within = membersOfNode(node, nodeSize)
      const across = membersOfNumber(local, size, nodeSize)
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
      if (isFlat(size, nodeSize, elements)) return direct.all_reduce.rounds(call, bytes)
      const nodes = size / nodeSize
      const within = count(nodes).map((node) => membersOfNode(node, nodeSize))
      const across = count(nodeSize).map((local) => membersOfNumber(local, size, nodeSize))
      const part = Math.ceil(elements / nodeSize)
      return [
        toOwners(within, elements),
        toOwners(across, part),
        fromOwners(across, part),
        fromOwners(within, elements),
      ]
    },
  },
})

const membersOfNode = (node: number, nodeSize: number): number[] =>
  count(nodeSize).map((local) => node * nodeSize + local)

const membersOfNumber = (local: number, size: number, nodeSize: number): number[] =>
  count(size / nodeSize).map((node) => node * nodeSize + local)

/** Whether there is only one level, or too few elements to cut. */
function isFlat(size: number, nodeSize: number, elements: number): boolean {
  check(
    size <= nodeSize || size % nodeSize === 0,
    'invalid_argument',
    () =>
      `hierarchical: expected a group within one node or of whole nodes of ${nodeSize} members, got ${size} members`,
  )
  return size <= nodeSize || nodeSize === 1 || elements < size
}

/** Who owns the smallest part sends the most, as all others' parts leave. */
const toOwners = (teams: readonly (readonly number[])[], elements: number): Round => {
  const n = teams[0]!.length
  return { times: 1, bytes: (4 * (elements - Math.floor(elements / n))) / (n - 1), messages: { teams } }
}

const fromOwners = (teams: readonly (readonly number[])[], elements: number): Round => ({
  times: 1,
  bytes: 4 * Math.ceil(elements / teams[0]!.length),
  messages: { teams },
})
