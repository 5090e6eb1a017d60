import { check } from '../errors.ts'
import type { Value } from '../ops/contract.ts'
import type { Graph, GraphNode } from '../program/graph.ts'
import { rewrite } from '../program/rewrite.ts'

/** Rows that linear_cross_entropy takes a multiple of. */
const ROW_UNIT = 32

/**
 * A forward graph whose loss is linear_cross_entropy of the head's operands instead of cross_entropy of its logits: they
 * exist a part of the vocabulary at a time, and the backward passes make them anew.
 *
 * @throws ExactmapError `invalid_config` where the logits are not a plain product, or rows do not fit
 */
export function withRecomputedLogits(graph: Graph): Graph {
  const loss = graph.nodes.find((node) => node.op === 'cross_entropy')
  const { origin, type } = graph.value(loss?.inputs.logits ?? graph.outputs[0]!.value)
  const head = origin.kind === 'node' ? graph.nodes.find((node) => node.id === origin.node) : undefined
  check(
    loss && head && isPlainProduct(head),
    'invalid_config',
    'logits: recomputed needs logits that are one product of one rank, without a bias; take logits: stored',
  )
  check(
    type.shape[0]! % ROW_UNIT === 0,
    'invalid_config',
    () =>
      `logits: recomputed needs batch * sequence to be a multiple of ${ROW_UNIT}, got ${type.shape[0]}; change batch or sequence, or take logits: stored`,
  )
  const { x, w } = head.inputs
  return rewrite(graph, (node, out, find): Record<string, Value> | undefined => {
    if (node.id === head.id) return {}
    if (node.id !== loss.id) return undefined
    const { targets, weights } = node.inputs
    const operands = { x: x!, w: w!, targets: targets!, weights: weights! }
    return out.op(
      'linear_cross_entropy',
      {},
      Object.fromEntries(Object.entries(operands).map(([port, id]) => [port, find(id)])),
    )
  })
}

const isPlainProduct = ({ op, attrs, inputs }: GraphNode): boolean =>
  op === 'matmul' && attrs.activation === 'none' && inputs.bias === undefined && inputs.residual === undefined
