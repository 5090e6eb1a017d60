import type { LaunchPlan, Target } from '../../backends/backend.ts'
import { check, ExactmapError } from '../errors.ts'
import type { ExchangeAttributes } from '../ops/collectives/exchange.ts'
import { opContract } from '../ops/index.ts'
import { byteSize, type TensorType } from '../tensor/type.ts'
import { dependencies } from './dependencies.ts'
import { fuse } from './fusion.ts'
import type { Graph, GraphNode, GraphValue } from './graph.ts'
import { hashOf, hashText } from './hash.ts'
import { alignTensor, arenaPlan, externalLayout, type LayoutMarks } from './layout.ts'
import { executionOrder, legalize } from './legalize.ts'
import { type Lifetime, planMemory } from './memory_plan.ts'
import {
  type ArenaKind,
  type ArenaPlan,
  type Exchange,
  externalArenas,
  type KernelRef,
  type Message,
  type Operand,
  type Program,
  type Range,
  type Segment,
  type Step,
  type TensorPlan,
} from './program.ts'

export interface CompileOptions {
  /** One launch list per op, no fusion: what `diff` compares on. */
  readonly portable?: boolean
  /** Microbatch slots of the activation arena. */
  readonly slots?: number
  /**
   * Layouts of external arenas that are larger than what this graph declares, e.g. a training run's parameters
   * seen by a program that uses only some of them. By default the layout covers the declared tensors.
   */
  readonly layouts?: Partial<Record<ArenaKind, ArenaPlan>>
  /** Segments that a schedule may run in another order than they are declared in: they share no memory. */
  readonly unordered?: readonly (readonly string[])[]
}

interface Scratch {
  readonly name: string
  readonly type: TensorType
  readonly position: number
}

/** Compiles a graph for a target: fusion, kernel choice, memory plan, launches with their dependencies. Needs no device. */
export function compile(source: Graph, target: Target, options: CompileOptions = {}): Program {
  const graph = legalize(options.portable ? source : fuse(source))
  const order = executionOrder(graph)
  const chosen = order.map((node) =>
    node.op === 'exchange' ? { launches: [], scratch: {} } : chooseKernels(graph, node, target),
  )
  const scratches = chosen.flatMap(({ scratch }, position) =>
    Object.entries(scratch).map(([name, type]): Scratch => ({ name: `${position}/${name}`, type, position })),
  )
  const memory = planArenas(graph, order, scratches, target, options)

  const kernels: KernelRef[] = []
  const kernelIndex = new Map<string, number>()
  const internKernel = (plan: LaunchPlan): number => {
    const { variant: name, modules, constants } = plan
    const text = target.link({ name, modules, constants })
    const ref: KernelRef = { name, modules, constants, textHash: hashText(text) }
    const key = hashOf(ref)
    const known = kernelIndex.get(key)
    if (known !== undefined) return known
    kernelIndex.set(key, kernels.length)
    kernels.push(ref)
    return kernels.length - 1
  }

  const segments = graph.segments.map((name): Segment => {
    const steps: Step[] = []
    const inputs = new Map<string, GraphValue>()
    order.forEach((node, position) => {
      if (node.segment !== name) return
      for (const id of Object.values(node.inputs)) {
        const { origin } = graph.value(id)
        if (origin.kind === 'input') inputs.set(origin.name, graph.value(id))
      }
      const operands = (ids: Readonly<Record<string, number>>): Record<string, Operand> =>
        Object.fromEntries(
          Object.entries(ids).map(([port, id]) => [
            port,
            { ...memory.rangeOf(id), type: graph.value(id).type },
          ]),
        )
      const call = {
        op: node.op,
        attrs: node.attrs,
        inputs: operands(node.inputs),
        outputs: operands(node.outputs),
      }
      if (node.op === 'exchange') {
        steps.push(exchangeStep(node, steps.length, memory.rangeOf))
        return
      }
      const { launches, scratch } = chosen[position]!
      launches.forEach((plan, part) => {
        const bindings = plan.bindings.map(({ port, as = port, access, offset = 0, bytes }) => {
          const whole: Range =
            port in scratch
              ? memory.rangeOfScratch(`${position}/${port}`)
              : (call.inputs[port] ?? call.outputs[port])!
          check(whole, 'internal', `${node.op}: kernel ${plan.variant} binds unknown port '${port}'`)
          return {
            name: as,
            arena: whole.arena,
            offset: whole.offset + offset,
            bytes: bytes ?? whole.bytes - offset,
            access,
          }
        })
        steps.push({
          kind: 'launch',
          index: steps.length,
          name: [node.scope, `${node.op}.${node.id}`].filter(Boolean).join('/'),
          queue: 'compute',
          after: [],
          kernel: internKernel(plan),
          workgroups: plan.workgroups,
          bindings,
          call,
          part: [part, launches.length],
          flops: opContract(node.op).flops(graph.call(node)) / launches.length,
        })
      })
    })
    const after = dependencies(steps)
    const named = (label: string, id: number) => ({
      name: label,
      ...memory.rangeOf(id),
      type: graph.value(id).type,
    })
    return {
      name,
      steps: steps.map((step, i) => ({ ...step, after: after[i]! })),
      inputs: [...inputs].map(([label, value]) => named(label, value.id)),
      outputs: graph.outputs.filter((o) => o.segment === name).map((o) => named(o.name, o.value)),
    }
  })

  return {
    format: 'exactmap-program',
    version: 1,
    name: graph.name,
    target: {
      name: target.name,
      backend: target.backend,
      hash: hashOf([
        target.name,
        target.backend,
        target.limits,
        [...target.features].sort(),
        target.subgroupSize,
      ]),
    },
    arenas: memory.arenas,
    kernels,
    segments,
    slots: options.slots ?? 1,
    groups: groupsOf(order),
  }
}

/** Groups that exchanges name, with their sizes. */
function groupsOf(nodes: readonly GraphNode[]): Record<string, number> {
  const groups: Record<string, number> = {}
  for (const { op, attrs } of nodes) {
    if (op !== 'exchange') continue
    const { group, size } = attrs as ExchangeAttributes
    check(
      (groups[group] ?? size) === size,
      'invalid_argument',
      `group '${group}' has ${groups[group]} members in one exchange and ${size} in another`,
    )
    groups[group] = size
  }
  return groups
}

function exchangeStep(node: GraphNode, index: number, rangeOf: (id: number) => Range): Exchange {
  const { group, channel, sends, receives } = node.attrs as ExchangeAttributes
  const message =
    (values: Readonly<Record<string, number>>) =>
    ({ peer, port, offset, bytes }: ExchangeAttributes['sends'][number]): Message => {
      const whole = rangeOf(values[port]!)
      return { peer, arena: whole.arena, offset: whole.offset + offset, bytes }
    }
  return {
    kind: 'exchange',
    index,
    name: [node.scope, `exchange.${node.id}`].filter(Boolean).join('/'),
    queue: 'network',
    after: [],
    group,
    channel,
    sends: sends.map(message(node.inputs)),
    receives: receives.map(message(node.outputs)),
  }
}

/** Identifies a program: equal graphs on equal targets with equal kernels give equal hashes. */
export const programHash = (program: Program): string => hashOf(program)

/**
 * Identifies what fixes a graph's numbers on a target: its ops, their types and the kernels that compute them, wherever
 * they lie in memory.
 */
export function numericsHash(source: Graph, target: Target): string {
  const graph = legalize(fuse(source))
  return hashOf(
    executionOrder(graph).map((node) => [
      graph.call(node),
      chooseKernels(graph, node, target).launches.map(({ variant: name, modules, constants, workgroups }) => [
        hashText(target.link({ name, modules, constants })),
        workgroups,
      ]),
    ]),
  )
}

function chooseKernels(graph: Graph, node: GraphNode, target: Target) {
  const call = graph.call(node)
  const choice = target.choose(call)
  if ('unsupported' in choice)
    throw new ExactmapError(
      'unsupported',
      `${node.op} cannot run on target '${target.name}': ${choice.unsupported}`,
      { program: graph.name, segment: node.segment, launch: `${node.op}.${node.id}` },
    )
  return { launches: choice.launches, scratch: choice.scratch ?? {} }
}

function planArenas(
  graph: Graph,
  order: readonly GraphNode[],
  scratches: readonly Scratch[],
  target: Target,
  options: CompileOptions,
) {
  const chunk = Math.floor(target.limits.maxBufferSize / 256) * 256
  const ranges = new Map<number, Range>()
  const arenas: ArenaPlan[] = []

  // External arenas: layouts given, or made from the tensors this graph declares.
  for (const kind of externalArenas) {
    const declared = graph.values.filter((v) => v.origin.kind === 'external' && v.origin.arena === kind)
    const ranged = graph.values.filter((v) => v.origin.kind === 'range' && v.origin.arena === kind)
    const given = options.layouts?.[kind]
    if (declared.length === 0 && ranged.length === 0) continue
    check(
      given || ranged.length === 0,
      'invalid_argument',
      `ranges of arena '${kind}' need its layout in the compile options`,
    )
    const plan =
      given ??
      withoutMarks(
        externalLayout(
          kind,
          declared.map((v) => ({ name: v.name, type: v.type })),
          chunk,
        ),
      )
    const byName = new Map(plan.tensors.map((t) => [t.name, t]))
    for (const value of declared) {
      const tensor = byName.get(value.name)
      check(tensor, 'not_found', `arena '${kind}' has no tensor '${value.name}'`)
      check(
        hashOf(tensor.type) === hashOf(value.type),
        'invalid_shape',
        () =>
          `arena '${kind}' holds ${value.name} as ${JSON.stringify(tensor.type)}, the graph wants ${JSON.stringify(value.type)}`,
      )
      ranges.set(value.id, { arena: kind, offset: tensor.offset, bytes: tensor.bytes })
    }
    for (const value of ranged) {
      const { offset } = value.origin as { offset: number }
      check(
        offset + byteSize(value.type) <= plan.bytes,
        'invalid_argument',
        `range ${value.name} ends after its arena`,
      )
      ranges.set(value.id, { arena: kind, offset, bytes: byteSize(value.type) })
    }
    arenas.push({ ...plan, kind, external: true })
  }

  // Step inputs and constants: laid out in order, nothing shares bytes.
  for (const kind of ['step_input', 'constants'] as const) {
    const values = graph.values.filter((v) => v.origin.kind === (kind === 'constants' ? 'constant' : 'input'))
    if (values.length === 0) continue
    let end = 0
    const tensors = values.map((v): TensorPlan => {
      const bytes = byteSize(v.type)
      const plan: TensorPlan = {
        name: v.name,
        type: v.type,
        offset: end,
        bytes,
        ...(v.origin.kind === 'constant'
          ? { generator: { name: v.origin.generator, attrs: v.origin.attrs } }
          : {}),
      }
      ranges.set(v.id, { arena: kind, offset: end, bytes })
      end = alignTensor(end + bytes)
      return plan
    })
    arenas.push(arenaPlan(kind, false, end, 0, 1, tensors, chunk))
  }

  // Activations: one lifetime per storage, from the step that makes it to the last that reads it.
  const segmentEnd = new Map<string, number>()
  order.forEach((node, i) => {
    segmentEnd.set(node.segment, i)
  })
  const lives = new Map<number, { name: string; type: TensorType; first: number; last: number }>()
  const touch = (id: number, position: number): void => {
    const value = graph.value(id)
    const base = graph.value(value.storage)
    if (base.origin.kind !== 'node') return
    const life = lives.get(base.id)
    if (life) life.last = Math.max(life.last, position)
    else lives.set(base.id, { name: base.name, type: base.type, first: position, last: position })
  }
  order.forEach((node, position) => {
    for (const id of Object.values(node.inputs)) {
      const base = graph.value(graph.value(id).storage)
      check(
        base.origin.kind !== 'node' || lives.has(base.id),
        'invalid_argument',
        () => `segment '${node.segment}' reads ${base.name}, which a later segment makes`,
      )
      touch(id, position)
    }
    for (const id of Object.values(node.outputs)) touch(id, position)
  })
  for (const { segment, value } of graph.outputs) touch(value, segmentEnd.get(segment) ?? 0)

  const ids = [...lives.keys()]
  const entries = [
    ...lives.values(),
    ...scratches.map((s) => ({ name: s.name, type: s.type, first: s.position, last: s.position })),
  ]
  for (const segments of options.unordered ?? []) {
    const positions = order.flatMap(({ segment }, i) => (segments.includes(segment) ? [i] : []))
    const [start, end] = [positions[0], positions.at(-1)]
    if (start === undefined || end === undefined) continue
    for (const life of entries) {
      if (life.first > end || life.last < start) continue
      life.first = Math.min(life.first, start)
      life.last = Math.max(life.last, end)
    }
  }
  if (entries.length > 0) {
    const lifetimes = entries.map(
      (e): Lifetime => ({ bytes: alignTensor(byteSize(e.type)), first: e.first, last: e.last }),
    )
    const plan = planMemory(lifetimes, 256, chunk)
    const tensors = entries.map(
      (e, i): TensorPlan => ({
        name: e.name,
        type: e.type,
        offset: plan.offsets[i]!,
        bytes: byteSize(e.type),
        live: [e.first, e.last],
      }),
    )
    ids.forEach((id, i) => {
      ranges.set(id, { arena: 'activations', offset: tensors[i]!.offset, bytes: tensors[i]!.bytes })
    })
    const slots = options.slots ?? 1
    arenas.push(
      arenaPlan('activations', false, plan.bytes, slots > 1 ? plan.bytes : 0, slots, tensors, chunk),
    )
  }
  const scratchRanges = new Map(
    scratches.map((s) => {
      const tensor = arenas.at(-1)!.tensors.find((t) => t.name === s.name)!
      return [s.name, { arena: 'activations' as const, offset: tensor.offset, bytes: tensor.bytes }]
    }),
  )
  return {
    arenas,
    rangeOf: (id: number): Range => {
      const range = ranges.get(graph.value(id).storage)
      check(range, 'internal', () => `value ${graph.value(id).name} has no place`)
      return range
    },
    rangeOfScratch: (name: string): Range => scratchRanges.get(name)!,
  }
}

const withoutMarks = ({ vectorsAt: _, shared: __, ...plan }: ArenaPlan & LayoutMarks): ArenaPlan => plan
