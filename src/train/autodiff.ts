import { check, ExactmapError } from '../errors.ts'
import { returned } from '../ops/collectives/boundary.ts'
import type { GradientContext, GradientRule, Value } from '../ops/contract.ts'
import { opContract } from '../ops/index.ts'
import type { Graph, GraphNode, GraphValue } from '../program/graph.ts'
import { rewrite } from '../program/rewrite.ts'
import { formatOf } from '../tensor/format.ts'
import { tensorType } from '../tensor/type.ts'

export interface DifferentiateOptions {
  /** Values (ids in the forward graph) whose gradients start the pass: d(loss)/d(value). */
  readonly roots: readonly {
    readonly value: number /** Input that holds the start gradient; ones without it. */
    readonly seed?: string
  }[]
  /** Arena whose tensors are parameters; their gradients accumulate in arena `gradients` under the same names. */
  readonly parameters?: 'parameters'
  /** Another name for the accumulator of a parameter's gradient at one of its uses. */
  readonly accumulator?: (parameter: string, use: GraphNode) => string
  /** Further values whose gradients are declared as outputs `d.<name>` of the last segment. */
  readonly inputs?: readonly number[]
  /**
   * 'layer': keep only what crosses scopes (the residual stream) and run a layer's forward ops again in its
   * backward pass. Weight gradients then follow their layer directly, in one segment `backward`: kept apart they
   * would hold on to everything that recomputing frees.
   */
  readonly recompute?: 'none' | 'layer'
}

/**
 * Reverse-mode differentiation: a new graph with the forward nodes and, in two further segments, their gradients.
 * `backward_input` holds the chain of activation gradients, `backward_weight` holds only launches that add
 * parameter gradients into their accumulators, so that a schedule may run them later (zero-bubble). Gradients of nodes
 * in a segment `forward.<chunk>` go to `backward_input.<chunk>` and `backward_weight.<chunk>`. Where a value was sent
 * to another rank its gradient is received, and that of a received value is sent.
 *
 * @throws ExactmapError `unsupported` for an op without a gradient, or a value on the way that is not f32
 */
export function differentiate(forward: Graph, options: DifferentiateOptions): Graph {
  const map = new Map<number, GraphValue>()
  const graph = rewrite(forward, (node, out, find) => {
    const made = out.op(
      node.op,
      node.attrs,
      Object.fromEntries(Object.entries(node.inputs).map(([p, id]) => [p, find(id)])),
    )
    for (const [port, id] of Object.entries(node.outputs)) map.set(id, made[port]!)
    for (const id of Object.values(node.inputs)) map.set(id, find(id))
    return made
  })
  const at = (id: number): GraphValue => {
    const value = map.get(id)
    if (!value)
      throw new ExactmapError(
        'invalid_argument',
        `value ${forward.value(id).name} takes no part in the forward graph`,
      )
    return value
  }

  // Which values depend on something whose gradient is wanted.
  const isParameter = (id: number): boolean => {
    const { origin } = forward.value(id)
    return origin.kind === 'external' && origin.arena === options.parameters
  }
  const needs = new Set<number>(options.inputs ?? [])
  for (const value of forward.values) if (isParameter(value.id)) needs.add(value.id)
  for (const node of forward.nodes) if (node.op === 'receive') needs.add(node.outputs.y!)
  for (const node of forward.nodes)
    if (Object.values(node.inputs).some((id) => needs.has(id)))
      for (const id of Object.values(node.outputs)) needs.add(id)

  for (const id of needs) {
    const { name, type } = forward.value(id)
    check(
      type.format === 'f32' ||
        formatOf(type.format).kind === 'integer' ||
        isParameter(id) ||
        options.inputs?.includes(id),
      'unsupported',
      () =>
        `gradients are taken of f32 graphs, ${name} is ${type.format}; a recipe (src/program/recipe.ts) rounds forward and backward passes together afterwards`,
    )
  }

  const gradients = new Map<number, GraphValue>()
  const accumulators = new Map<string, GraphValue>()
  const recompute = options.recompute === 'layer'
  /** Segment of the pass for the chunk that a forward segment is of. */
  let chunk = ''
  const inInput = <T>(body: () => T): T =>
    graph.segment(`${recompute ? 'backward' : 'backward_input'}${chunk}`, body)
  const inWeight = <T>(body: () => T): T =>
    graph.segment(`${recompute ? 'backward' : 'backward_weight'}${chunk}`, body)
  const again = new Map<number, GraphValue>()
  /** The value a gradient of `reader` should read: made again if it comes from the reader's own layer. */
  const forGradientOf = (reader: GraphNode, id: number): GraphValue => {
    const { origin } = forward.value(id)
    if (
      !recompute ||
      origin.kind !== 'node' ||
      reader.scope === '' ||
      forward.nodes[origin.node]!.scope !== reader.scope
    )
      return at(id)
    const known = again.get(id)
    if (known) return known
    const node = forward.nodes[origin.node]!
    const made = inInput(() =>
      graph.op(
        node.op,
        node.attrs,
        Object.fromEntries(Object.entries(node.inputs).map(([p, input]) => [p, forGradientOf(node, input)])),
      ),
    )
    for (const [port, output] of Object.entries(node.outputs)) again.set(output, made[port]!)
    return again.get(id)!
  }
  for (const segment of forward.segments) {
    chunk = chunkOf(segment)
    inInput(() => {})
    inWeight(() => {})
  }
  for (const { value, seed } of options.roots) {
    const { type } = forward.value(value)
    check(
      type.format === 'f32',
      'invalid_argument',
      `a gradient can only start at an f32 value, ${forward.value(value).name} is ${type.format}`,
    )
    gradients.set(
      value,
      seed === undefined ? graph.constant('ones', { shape: type.shape }, type) : graph.input(seed, type),
    )
  }

  const addParameterGradient = (
    id: number,
    use: GraphNode,
    rule: GradientRule,
    context: GradientContext,
  ): void => {
    const { name: parameter, type } = forward.value(id)
    const name = options.accumulator?.(parameter, use) ?? parameter
    const accumulator =
      accumulators.get(name) ?? graph.external('gradients', name, tensorType('f32', ...type.shape))
    const updated = inWeight(() =>
      'weight' in rule
        ? rule.weight(context, accumulator)
        : graph.op('accumulate', {}, { accumulator, x: rule.input(context) }).y!,
    )
    accumulators.set(name, updated as GraphValue)
  }
  const addInputGradient = (id: number, rule: GradientRule, context: GradientContext): void =>
    inInput(() => {
      const { shape } = forward.value(id).type
      const made =
        'input' in rule
          ? rule.input(context)
          : rule.weight(context, graph.constant('zeros', { shape }, tensorType('f32', ...shape)))
      const known = gradients.get(id)
      gradients.set(id, (known ? graph.op('add', {}, { a: known, b: made }).y! : made) as GraphValue)
    })

  for (const node of [...forward.nodes].reverse()) {
    chunk = chunkOf(node.segment)
    const dOutputs: Record<string, Value> = {}
    for (const [port, id] of Object.entries(node.outputs)) {
      const gradient = gradients.get(id)
      if (gradient) dOutputs[port] = gradient
    }
    if (node.op === 'receive' && dOutputs.y)
      inInput(() => graph.op('send', returned(node.attrs), { x: dOutputs.y }))
    const wanted = Object.entries(node.inputs).filter(([, id]) => needs.has(id))
    const reached = Object.keys(dOutputs).length > 0 || node.op === 'send'
    if (!reached || wanted.length === 0) continue
    graph.scope(node.scope === '' ? 'backward' : `backward/${node.scope}`, () => {
      const context: GradientContext = {
        g: graph,
        attrs: node.attrs,
        // Read lazily: a rule that does not look at a value must not have it kept or made again.
        inputs: lazily(node.inputs, (id) => forGradientOf(node, id)),
        outputs: lazily(node.outputs, (id) => forGradientOf(node, id)),
        dOutputs,
      }
      for (const [port, id] of wanted) {
        const rule = gradientRule(node, port)
        if (!rule) continue
        if (isParameter(id)) addParameterGradient(id, node, rule, context)
        else addInputGradient(id, rule, context)
      }
    })
  }
  inWeight(() => {
    for (const id of options.inputs ?? []) {
      const gradient = gradients.get(id)
      if (gradient) graph.output(`d.${forward.value(id).name}`, gradient)
    }
  })
  return graph
}

/** `.1` of segment `forward.1`; nothing for one without chunks. */
const chunkOf = (segment: string): string => /^forward(\.\d+)$/.exec(segment)?.[1] ?? ''

function lazily(ids: Readonly<Record<string, number>>, find: (id: number) => Value): Record<string, Value> {
  const out = {}
  for (const [port, id] of Object.entries(ids))
    Object.defineProperty(out, port, { enumerable: true, get: () => find(id) })
  return out
}

function gradientRule(node: GraphNode, port: string): GradientRule | undefined {
  const { gradient } = opContract(node.op)
  if ('none' in gradient && typeof gradient.none === 'string')
    throw new ExactmapError('unsupported', `${node.op} has no gradient: ${gradient.none}`, {
      launch: `${node.op}.${node.id}`,
    })
  return (gradient as Record<string, GradientRule>)[port]
}
