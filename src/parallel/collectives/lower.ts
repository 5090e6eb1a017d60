import { check } from '../../errors.ts'
import type { BoundaryAttributes, ReceiveAttributes } from '../../ops/collectives/boundary.ts'
import type { GroupAttributes } from '../../ops/collectives/group.ts'
import type { Value } from '../../ops/contract.ts'
import { collectives } from '../../ops/index.ts'
import type { Members } from '../../program/exchange.ts'
import type { Graph } from '../../program/graph.ts'
import { rewrite } from '../../program/rewrite.ts'
import { byteSize } from '../../tensor/type.ts'
import type { Collective, CollectiveAlgorithm, CollectiveCall, CollectiveKind } from './algorithm.ts'
import { direct, stack } from './direct.ts'

/** Which algorithm carries out a collective of so many bytes. */
export type ChooseAlgorithm = (
  kind: CollectiveKind,
  group: GroupAttributes,
  bytes: number,
) => CollectiveAlgorithm

/**
 * Writes the collectives of a graph as exchanges and sums: what compiles. Groups of one member vanish.
 *
 * @param members own member number in each group the graph names
 */
export function lowerCollectives(
  graph: Graph,
  members: Members,
  choose: ChooseAlgorithm = () => direct,
): Graph {
  return rewrite(graph, (node, g, find) => {
    if (!(node.op in collectives) || node.op === 'exchange') return undefined
    const { group, size, channel } = node.attrs as GroupAttributes
    const self = members[group]
    check(
      self !== undefined,
      'invalid_argument',
      `the graph has a ${node.op} in group '${group}', this rank is in none`,
    )
    const call: CollectiveCall = { g, self, group, size, channel }
    const x = node.inputs.x === undefined ? undefined : find(node.inputs.x)
    switch (node.op) {
      case 'send': {
        const { peer } = node.attrs as BoundaryAttributes
        const sends = [{ peer, port: 'x', offset: 0, bytes: byteSize(x!.type) }]
        return g.op('exchange', { group, size, channel, sends, receives: [], outputs: {} }, { x })
      }
      case 'receive': {
        const { peer, type } = node.attrs as ReceiveAttributes
        const receives = [{ peer, port: 'y', offset: 0, bytes: byteSize(type) }]
        return g.op('exchange', { group, size, channel, sends: [], receives, outputs: { y: type } }, {})
      }
      case 'cross_entropy_parallel': {
        const [logits, targets, weights] = [
          node.inputs.logits!,
          node.inputs.targets!,
          node.inputs.weights!,
        ].map(find)
        const { parts } = g.op('cross_entropy_shard', {}, { logits, targets })
        // Two numbers a row: everything to everyone.
        const all = stack(call, parts!, { ...parts!.type, shape: [size, ...parts!.type.shape] })
        return g.op('cross_entropy_join', {}, { parts: all, weights })
      }
      default: {
        if (size === 1) return { y: x! }
        const kind = node.op as CollectiveKind
        return { y: carryOut(choose, kind, call, node.attrs, x!) }
      }
    }
  })
}

function carryOut(
  choose: ChooseAlgorithm,
  kind: CollectiveKind,
  call: CollectiveCall,
  attrs: object,
  x: Value,
): Value {
  const algorithm = choose(kind, call, byteSize(x.type))
  const { lower } = (algorithm[kind] ?? direct[kind]) as Collective
  return lower({ ...attrs, ...call }, x)
}
