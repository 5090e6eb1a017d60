import type { Graph, GraphNode } from './graph.ts'
import { rewrite, usesOf } from './rewrite.ts'

/** What the gate of matmul_gated is called there, by the op that does it alone. */
const gates: Readonly<Record<string, string>> = { swiglu: 'silu', geglu: 'gelu_tanh' }

/** Joins a matmul whose f32 columns are gates, then ups, with the swiglu or geglu that alone reads them. */
export function joinGates(graph: Graph): Graph {
  const uses = usesOf(graph)
  const isOutput = new Set(graph.outputs.map((o) => o.value))
  const gateOf = new Map<number, GraphNode>()
  for (const node of graph.nodes) {
    const sums = node.outputs.y
    if (node.op !== 'matmul' || sums === undefined || isOutput.has(sums)) continue
    const users = uses.get(sums) ?? []
    const gate = users[0]
    if (
      gate &&
      users.length === 1 &&
      gates[gate.op] &&
      gate.segment === node.segment &&
      node.attrs.activation === 'none' &&
      // Inside one launch the sums would not be rounded as the graph has them.
      !node.attrs.output &&
      node.inputs.residual === undefined
    )
      gateOf.set(node.id, gate)
  }
  const gone = new Set([...gateOf.values()].map((gate) => gate.id))
  return rewrite(graph, (node, out, find, bind) => {
    if (gone.has(node.id)) return {}
    const gate = gateOf.get(node.id)
    if (!gate) return undefined
    const inputs = Object.fromEntries(Object.entries(node.inputs).map(([port, id]) => [port, find(id)]))
    bind(gate.outputs.y!, out.op('matmul_gated', { activation: gates[gate.op] }, inputs).y!)
    return {}
  })
}
