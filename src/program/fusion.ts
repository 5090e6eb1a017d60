import type { Value } from '../ops/contract.ts'
import { joinGates } from './fusion_gates.ts'
import { joinNormGradients } from './fusion_norms.ts'
import type { Graph, GraphNode } from './graph.ts'
import { inputsOf, onlyReaderOf, rewrite, usesOf } from './rewrite.ts'

const activations = new Set(['gelu_tanh', 'silu'])

/** Ops that can add a residual to their result, with the port that has it. */
const withResidual: Readonly<Record<string, string>> = {
  matmul: 'y',
  rms_norm_backward_input: 'dx',
  layer_norm_backward_input: 'dx',
}

/** Joins ops that one launch can do: see epilogues and cached rotations below, gates, and gradients of norms. */
export const fuse = (graph: Graph): Graph =>
  joinNormGradients(joinCachedRotations(joinGates(joinEpilogues(graph))))

/**
 * Joins ops whose intermediate nobody else reads:
 * - matmul with f32 y, then gelu_tanh or silu: the activation becomes the matmul's epilogue;
 * - matmul or the gradient of a norm, then add: the other operand becomes its residual.
 * qkv and gate + up are joined by the models themselves (one weight, one matmul), bias is part of matmul.
 */
export function joinEpilogues(graph: Graph): Graph {
  const onlyReader = onlyReaderOf(graph)
  const absorbed = new Map<number, { activation?: GraphNode; add?: GraphNode }>()
  const gone = new Set<number>()
  for (const node of graph.nodes) {
    const port = withResidual[node.op]
    if (!port) continue
    const plan: { activation?: GraphNode; add?: GraphNode } = {}
    let last = node.outputs[port]!
    let user = onlyReader(last)
    if (
      user &&
      activations.has(user.op) &&
      user.segment === node.segment &&
      node.attrs.activation === 'none' &&
      // Inside one launch the sum would not be rounded as the graph has it.
      !node.attrs.output &&
      node.inputs.residual === undefined
    ) {
      plan.activation = user
      last = user.outputs.y!
      user = onlyReader(last)
    }
    if (
      user?.op === 'add' &&
      user.segment === node.segment &&
      node.inputs.residual === undefined &&
      user.inputs.a !== user.inputs.b
    ) {
      const other = user.inputs.a === last ? user.inputs.b! : user.inputs.a!
      const { origin } = graph.value(other)
      const ready = origin.kind !== 'node' || origin.node < node.id
      if (ready) plan.add = user
    }
    if (plan.activation || plan.add) {
      absorbed.set(node.id, plan)
      if (plan.activation) gone.add(plan.activation.id)
      if (plan.add) gone.add(plan.add.id)
    }
  }
  return rewrite(graph, (node, out, find, bind) => {
    if (gone.has(node.id)) return {}
    const plan = absorbed.get(node.id)
    if (!plan) return undefined
    const end = plan.add ?? plan.activation!
    const port = withResidual[node.op]!
    const last = plan.activation?.outputs.y ?? node.outputs[port]!
    const other = plan.add && (plan.add.inputs.a === last ? plan.add.inputs.b! : plan.add.inputs.a!)
    const inputs = inputsOf(node, find)
    const made = out.op(
      node.op,
      { ...node.attrs, ...(plan.activation ? { activation: plan.activation.op } : {}) },
      { ...inputs, residual: other === undefined ? undefined : find(other) },
    )
    bind(end.outputs.y!, made[port]!)
    return {}
  })
}

/**
 * Joins rope of a packed projection's queries and keys with kv_write of it at the same positions. Whoever else reads what
 * was rotated comes later.
 */
function joinCachedRotations(graph: Graph): Graph {
  const uses = usesOf(graph)
  const isOutput = new Set(graph.outputs.map((o) => o.value))
  const rotations = new Map<number, GraphNode>()
  for (const write of graph.nodes) {
    if (write.op !== 'kv_write') continue
    const { origin } = graph.value(write.inputs.qkv!)
    const rope = origin.kind === 'node' ? graph.nodes.find((node) => node.id === origin.node) : undefined
    if (
      rope?.op === 'rope' &&
      rope.segment === write.segment &&
      !rope.attrs.inverse &&
      rope.attrs.head_dim === write.attrs.head_dim &&
      rope.attrs.rotated_heads === write.attrs.heads + write.attrs.kv_heads &&
      rope.inputs.positions === write.inputs.position &&
      !isOutput.has(rope.outputs.y!) &&
      (uses.get(rope.outputs.y!) ?? []).every((user) => user.id >= write.id)
    )
      rotations.set(write.id, rope)
  }
  const gone = new Set([...rotations.values()].map((rope) => rope.id))
  return rewrite(graph, (node, out, find, bind): Record<string, Value> | undefined => {
    if (gone.has(node.id)) return {}
    const rope = rotations.get(node.id)
    if (!rope) return undefined
    const { qkv: _, ...paged } = node.inputs
    const inputs = { ...paged, qkv: rope.inputs.x!, table: rope.inputs.table! }
    const { qkv_out, k_pool_out, v_pool_out } = out.op(
      'rope_kv_write',
      { ...node.attrs, layout: rope.attrs.layout },
      Object.fromEntries(Object.entries(inputs).map(([port, id]) => [port, find(id)])),
    )
    bind(rope.outputs.y!, qkv_out!)
    return { k_pool_out: k_pool_out!, v_pool_out: v_pool_out! }
  })
}
