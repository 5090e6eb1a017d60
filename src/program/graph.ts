import { check, ExactmapError } from '../errors.ts'
import type { Attributes, NodeBuilder, OpCall, OpContract, Ports, Value } from '../ops/contract.ts'
import { checkCall, opContract } from '../ops/index.ts'
import type { TensorType } from '../tensor/type.ts'
import type { ArenaKind } from './program.ts'

/** Where a value comes from. */
export type Origin =
  | { readonly kind: 'node'; readonly node: number; readonly port: string }
  /** A tensor in an arena that outlives the program (weights, kv, optimizer state, …). */
  | { readonly kind: 'external'; readonly arena: ArenaKind; readonly name: string }
  /** A byte range of an external arena that covers many tensors (optimizer steps, norms). */
  | { readonly kind: 'range'; readonly arena: ArenaKind; readonly offset: number }
  /** Written by the host before a step. */
  | { readonly kind: 'input'; readonly name: string }
  /** Made by a named generator when the program is loaded (see ops/constants.ts). */
  | { readonly kind: 'constant'; readonly generator: string; readonly attrs: Attributes }

export interface GraphValue extends Value {
  readonly name: string
  readonly origin: Origin
  /** The value whose storage this one is: itself, or the in-place input it was written over. */
  readonly storage: number
}

export interface GraphNode {
  readonly id: number
  readonly op: string
  readonly attrs: Attributes
  readonly inputs: Readonly<Record<string, number>>
  readonly outputs: Readonly<Record<string, number>>
  readonly segment: string
  /** Path of names that tells a reader where the node stands, e.g. `layer.3`. */
  readonly scope: string
}

/** A result the host may read after its segment ran. */
export interface GraphOutput {
  readonly segment: string
  readonly name: string
  readonly value: number
}

/**
 * A model as data: nodes in execution order, values with static types, segments in declared order.
 * Built once; autodiff and fusion make new graphs from it, lowering turns it into a program.
 */
export class Graph implements NodeBuilder {
  readonly values: GraphValue[] = []
  readonly nodes: GraphNode[] = []
  readonly outputs: GraphOutput[] = []
  readonly segments: string[] = []
  private currentSegment = 'main'
  private currentScope: string[] = []

  constructor(readonly name: string) {}

  /** Nodes appended inside `body` belong to this segment. */
  segment<T>(name: string, body: () => T): T {
    const before = this.currentSegment
    this.currentSegment = name
    if (!this.segments.includes(name)) this.segments.push(name)
    try {
      return body()
    } finally {
      this.currentSegment = before
    }
  }

  /** Nodes appended inside `body` get `name` added to their scope. */
  scope<T>(name: string, body: () => T): T {
    this.currentScope.push(name)
    try {
      return body()
    } finally {
      this.currentScope.pop()
    }
  }

  /** A tensor written by the host before each step. The same name gives the same value. */
  input(name: string, type: TensorType): GraphValue {
    return this.named({ kind: 'input', name }, name, type)
  }

  /** A tensor of an arena that lives outside the program. The same arena and name give the same value. */
  external(arena: ArenaKind, name: string, type: TensorType): GraphValue {
    return this.named({ kind: 'external', arena, name }, name, type)
  }

  /** A whole range of an external arena as one vector; the tensors in it need not be declared in this graph. */
  range(arena: ArenaKind, offset: number, type: TensorType): GraphValue {
    return this.named({ kind: 'range', arena, offset }, `${arena}+${offset}:${type.shape.join('x')}`, type)
  }

  /** A table made at load by a generator of ops/constants.ts. Equal generator and attributes give the same value. */
  constant(generator: string, attrs: Attributes, type: TensorType): GraphValue {
    return this.named({ kind: 'constant', generator, attrs }, `${generator}${JSON.stringify(attrs)}`, type)
  }

  private named(origin: Origin, name: string, type: TensorType): GraphValue {
    const key = (o: Origin): string => ('arena' in o ? `${o.kind}/${o.arena}` : o.kind)
    const found = this.values.find(
      (v) => v.name === name && v.origin.kind !== 'node' && key(v.origin) === key(origin),
    )
    if (found) {
      check(
        JSON.stringify(found.type) === JSON.stringify(type),
        'invalid_shape',
        () =>
          `${origin.kind} '${name}' was declared as ${JSON.stringify(found.type)} and now as ${JSON.stringify(type)}`,
      )
      return found
    }
    const id = this.values.length
    const value: GraphValue = { id, name, type, origin, storage: id }
    this.values.push(value)
    return value
  }

  /** Appends a node; types are checked and inferred by the op's contract. Returns its outputs by port. */
  op(op: string, attrs: Attributes, inputs: Ports<Value | undefined>): Record<string, GraphValue> {
    const contract: OpContract = opContract(op)
    const given = Object.fromEntries(
      Object.entries(inputs).filter((e): e is [string, Value] => e[1] !== undefined),
    )
    for (const [port, value] of Object.entries(given))
      check(
        this.values[value.id] === value,
        'invalid_argument',
        () => `${op}.${port}: the value belongs to another graph`,
      )
    const call = checkCall(
      contract,
      attrs,
      Object.fromEntries(Object.entries(given).map(([k, v]) => [k, v.type])),
    )
    if (!this.segments.includes(this.currentSegment)) this.segments.push(this.currentSegment)
    const id = this.nodes.length
    const outputs: Record<string, GraphValue> = {}
    for (const [port, type] of Object.entries(call.outputs)) {
      const valueId = this.values.length
      const over = given[contract.inPlace?.[port] ?? '']
      const value: GraphValue = {
        id: valueId,
        name: [...this.currentScope, `${op}.${id}`, port].join('/'),
        type,
        origin: { kind: 'node', node: id, port },
        storage: over ? this.values[over.id]!.storage : valueId,
      }
      this.values.push(value)
      outputs[port] = value
    }
    this.nodes.push({
      id,
      op,
      attrs: call.attrs,
      inputs: Object.fromEntries(Object.entries(given).map(([k, v]) => [k, v.id])),
      outputs: Object.fromEntries(Object.entries(outputs).map(([k, v]) => [k, v.id])),
      segment: this.currentSegment,
      scope: this.currentScope.join('/'),
    })
    return outputs
  }

  /** Declares a value the host may read after the current segment ran. */
  output(name: string, value: Value): void {
    check(
      !this.outputs.some((o) => o.segment === this.currentSegment && o.name === name),
      'invalid_argument',
      `output '${name}' is declared twice in segment '${this.currentSegment}'`,
    )
    if (!this.segments.includes(this.currentSegment)) this.segments.push(this.currentSegment)
    this.outputs.push({ segment: this.currentSegment, name, value: value.id })
  }

  value(id: number): GraphValue {
    const value = this.values[id]
    if (!value) throw new ExactmapError('internal', `graph '${this.name}' has no value ${id}`)
    return value
  }

  /** The static call of a node: types in, types out. */
  call(node: GraphNode): OpCall {
    const types = (ids: Readonly<Record<string, number>>) =>
      Object.fromEntries(Object.entries(ids).map(([port, id]) => [port, this.value(id).type]))
    return { op: node.op, attrs: node.attrs, inputs: types(node.inputs), outputs: types(node.outputs) }
  }
}
