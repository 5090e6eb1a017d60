import type { Value } from '../ops/contract.ts'
import { Graph, type GraphNode, type GraphValue } from './graph.ts'

/**
 * Copies a graph node by node. `visit` may emit other nodes into the new graph instead of the given one; it gets
 * a function that finds the new value of an old one and returns the new outputs by port, or undefined to have
 * the node copied as it is.
 */
export function rewrite(
  graph: Graph,
  visit: (
    node: GraphNode,
    out: Graph,
    find: (oldValue: number) => GraphValue,
    bind: (oldValue: number, newValue: Value) => void,
  ) => Record<string, Value> | undefined,
): Graph {
  const out = new Graph(graph.name)
  const map = new Map<number, GraphValue>()
  const bind = (old: number, value: Value): void => {
    map.set(old, value as GraphValue)
  }
  const find = (old: number): GraphValue => {
    const known = map.get(old)
    if (known) return known
    const value = graph.value(old)
    const { origin, type } = value
    const made =
      origin.kind === 'external'
        ? out.external(origin.arena, origin.name, type)
        : origin.kind === 'range'
          ? out.range(origin.arena, origin.offset, type)
          : origin.kind === 'input'
            ? out.input(origin.name, type)
            : origin.kind === 'constant'
              ? out.constant(origin.generator, origin.attrs, type)
              : undefined
    if (!made) throw new Error(`value ${value.name} is used before it is made`)
    map.set(old, made)
    return made
  }
  for (const segment of graph.segments) out.segment(segment, () => {})
  for (const node of graph.nodes)
    out.segment(node.segment, () => {
      const emit = (): void => {
        const made = visit(node, out, find, bind) ?? out.op(node.op, node.attrs, inputsOf(node, find))
        for (const [port, id] of Object.entries(node.outputs)) if (made[port]) bind(id, made[port]!)
      }
      if (node.scope) out.scope(node.scope, emit)
      else emit()
    })
  for (const { segment, name, value } of graph.outputs)
    out.segment(segment, () => out.output(name, find(value)))
  return out
}

/** Positions of the nodes that read each value (by value id). */
export function usesOf(graph: Graph): Map<number, GraphNode[]> {
  const uses = new Map<number, GraphNode[]>()
  for (const node of graph.nodes)
    for (const id of Object.values(node.inputs)) {
      const list = uses.get(id)
      if (list) list.push(node)
      else uses.set(id, [node])
    }
  return uses
}

/** A node's inputs in the new graph, by port. */
export const inputsOf = (
  node: GraphNode,
  find: (oldValue: number) => GraphValue,
): Record<string, GraphValue> =>
  Object.fromEntries(Object.entries(node.inputs).map(([port, id]) => [port, find(id)]))

/** The node that alone reads a value (by id); undefined where there are others, or the value is the host's. */
export function onlyReaderOf(graph: Graph): (id: number) => GraphNode | undefined {
  const uses = usesOf(graph)
  const isOutput = new Set(graph.outputs.map((o) => o.value))
  return (id) => {
    const users = uses.get(id) ?? []
    return users.length === 1 && !isOutput.has(id) ? users[0] : undefined
  }
}
