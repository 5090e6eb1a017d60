import type { Graph, GraphNode } from './graph.ts'
import { inputsOf, onlyReaderOf, rewrite } from './rewrite.ts'

/** What the gate of matmul_gated is called there, by the op that does it alone. */
const gates: Readonly<Record<string, string>> = { swiglu: 'silu', geglu: 'gelu_tanh' }

/** Joins a matmul whose f32 columns are gates, then ups, with the swiglu or geglu that alone reads them. */
export function joinGates(graph: Graph): Graph {
  const onlyReader = onlyReaderOf(graph)
  const gateOf = new Map<number, GraphNode>()
  for (const node of graph.nodes) {
    if (node.op !== 'matmul') continue
    const gate = onlyReader(node.outputs.y!)
    if (
      gate &&
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
    bind(gate.outputs.y!, out.op('matmul_gated', { activation: gates[gate.op] }, inputsOf(node, find)).y!)
    return {}
  })
}
