import { opContract } from '../ops/index.ts'
import type { Graph, GraphNode, GraphValue } from './graph.ts'
import { rewrite, usesOf } from './rewrite.ts'

/**
 * Makes a graph obey the one-range-one-binding rule of WebGPU:
 * - a tensor given to two ports of a node is copied for the second one;
 * - an in-place op over a value that is still needed works on a copy; so it does over a constant or a step input,
 *   which keep their values from step to step.
 * In-place ops over external arenas write there by intention and are left alone.
 */
export function legalize(graph: Graph): Graph {
  const uses = usesOf(graph)
  const order = executionOrder(graph)
  const position = new Map(order.map((node, i) => [node.id, i]))
  const isOutput = new Set(graph.outputs.map((o) => o.value))
  const neededLater = (id: number, node: GraphNode): boolean =>
    isOutput.has(id) || (uses.get(id) ?? []).some((user) => position.get(user.id)! > position.get(node.id)!)

  return rewrite(graph, (node, out, find) => {
    const overwritten = new Set(Object.values(opContract(node.op).inPlace ?? {}))
    const inputs: Record<string, GraphValue> = {}
    const seen = new Set<number>()
    // In-place ports first, so that a read-only port gets the copy.
    const ports = Object.keys(node.inputs).sort(
      (a, b) => Number(overwritten.has(b)) - Number(overwritten.has(a)),
    )
    for (const port of ports) {
      const id = node.inputs[port]!
      const found = find(id)
      // Storage in the new graph: where an in-place op works on a copy, its result no longer shares the old bytes.
      const base = out.value(found.storage)
      const external = base.origin.kind === 'external' || base.origin.kind === 'range'
      const copy =
        seen.has(base.id) ||
        (overwritten.has(port) && !external && (base.origin.kind !== 'node' || neededLater(id, node)))
      const value = copy ? out.op('copy', {}, { x: found }).y! : found
      seen.add(base.id)
      inputs[port] = value
    }
    return out.op(node.op, node.attrs, inputs)
  })
}

/** Nodes in the order they run: segments as declared, nodes of a segment as appended. */
export function executionOrder(graph: Graph): GraphNode[] {
  const rank = new Map(graph.segments.map((s, i) => [s, i]))
  return [...graph.nodes].sort((a, b) => rank.get(a.segment)! - rank.get(b.segment)! || a.id - b.id)
}
