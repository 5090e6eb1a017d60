import type { Value } from '../ops/contract.ts'
import type { Graph, GraphNode } from './graph.ts'
import { inputsOf, rewrite, usesOf } from './rewrite.ts'

const inputGradients = new Set(['rms_norm_backward_input', 'layer_norm_backward_input'])

/** The gradient for x of the norm whose gradient for the weight this op is. */
const inputGradientOf: Readonly<Record<string, string>> = {
  rms_norm_backward_weight: 'rms_norm_backward_input',
  layer_norm_backward_weight: 'layer_norm_backward_input',
}

/** What the gradients of norms take over. */
interface Plan {
  /** By gradient for x: the cast of it that it does itself. */
  readonly casts: Map<number, GraphNode>
  /** By gradient for the weight: that for x which gives it the statistics of rows. */
  readonly statistics: Map<number, GraphNode>
  /** By gradient for the weight: that of the bias, summed in the same pass. */
  readonly biases: Map<number, GraphNode>
}

/**
 * Joins what the gradients of a norm would do twice:
 * - a cast to 16 bits of the gradient for x, which stays in f32 for others: it stores both;
 * - the statistics of rows: the gradient for x has them, that for the weight reads them;
 * - the sums over dy: the gradients of layer_norm's weight and bias are one pass.
 */
export function joinNormGradients(graph: Graph): Graph {
  const { casts, statistics, biases } = planOf(graph)
  const gone = new Set([...casts.values(), ...biases.values()].map(({ id }) => id))
  const giving = new Set([...statistics.values()].map(({ id }) => id))
  const given = new Map<number, Value>()
  return rewrite(graph, (node, out, find, bind): Record<string, Value> | undefined => {
    if (gone.has(node.id)) return {}
    const inputs = inputsOf(node, find)
    if (inputGradients.has(node.op)) {
      const cast = casts.get(node.id)
      const attrs = {
        ...node.attrs,
        ...(cast ? { rounded: cast.attrs.to } : {}),
        ...(giving.has(node.id) ? { statistics: true } : {}),
      }
      const made = out.op(node.op, attrs, inputs)
      if (cast) bind(cast.outputs.y!, made.dx_rounded!)
      if (made.statistics) given.set(node.id, made.statistics)
      return { dx: made.dx! }
    }
    const from = statistics.get(node.id)
    const bias = biases.get(node.id)
    if (!from && !bias) return undefined
    const made = out.op(node.op, node.attrs, {
      ...inputs,
      statistics: from && given.get(from.id),
      bias_accumulator: bias && find(bias.inputs.accumulator!),
    })
    if (bias) bind(bias.outputs.dbias!, made.dbias!)
    return { dweight: made.dweight! }
  })
}

function planOf(graph: Graph): Plan {
  const uses = usesOf(graph)
  const plan: Plan = { casts: new Map(), statistics: new Map(), biases: new Map() }
  const readersOf = (id: number): GraphNode[] => uses.get(id) ?? []
  for (const node of graph.nodes) {
    if (inputGradients.has(node.op)) {
      const cast = readersOf(node.outputs.dx!).find(
        ({ op, attrs, segment }) =>
          op === 'cast' && ['f16', 'bf16'].includes(attrs.to) && segment === node.segment,
      )
      if (cast) plan.casts.set(node.id, cast)
    }
    const wanted = inputGradientOf[node.op]
    if (!wanted) continue
    const { x, dy } = node.inputs
    const from = readersOf(x!).find(
      ({ id, op, attrs, inputs }) =>
        op === wanted && inputs.x === x && attrs.eps === node.attrs.eps && id < node.id,
    )
    if (from) plan.statistics.set(node.id, from)
    if (node.op !== 'layer_norm_backward_weight') continue
    const bias = readersOf(dy!).find(({ id, op, segment, inputs }) => {
      if (op !== 'bias_backward' || segment !== node.segment || id < node.id) return false
      const { origin } = graph.value(inputs.accumulator!)
      return origin.kind !== 'node' || origin.node < node.id
    })
    if (bias) plan.biases.set(node.id, bias)
  }
  return plan
}
