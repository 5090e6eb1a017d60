import type { Attributes, OpCall } from '../ops/contract.ts'
import type { TensorType } from '../tensor/type.ts'

/**
 * A program is a plain JSON value: everything a device does, fixed ahead of time. Nothing in it refers to a
 * device, so it can be printed, diffed, hashed, stored, simulated and replayed anywhere.
 */
export interface Program {
  readonly format: 'exactmap-program'
  readonly version: 1
  readonly name: string
  readonly target: TargetRef
  readonly arenas: readonly ArenaPlan[]
  readonly kernels: readonly KernelRef[]
  readonly segments: readonly Segment[]
  /** Microbatch slots: the activation arena is this many equal regions. */
  readonly slots: number
  /** Groups of ranks that exchanges name, with their sizes; which ranks those are is said when the program is loaded. */
  readonly groups: Readonly<Record<string, number>>
}

export interface TargetRef {
  readonly name: string
  readonly backend: string
  /** Hash of limits, features and tuning data. */
  readonly hash: string
}

/**
 * Kinds of arena, by who owns the bytes and how long they live.
 * - activations: scratch of one step, owned by the program, one region per slot
 * - step_input: written by the host before a step; small
 * - constants: generated tables, owned by the program
 * - parameters: f32 master weights of a training run; weights: what inference (or a lower compute type) reads
 * - gradients, moment1, moment2: mirror the offsets of parameters
 * - kv: cache pages; state: token history and the like
 * All but the first three are external: identified by layout hash, shared between programs.
 */
export const externalArenas = [
  'weights',
  'parameters',
  'gradients',
  'moment1',
  'moment2',
  'kv',
  'state',
] as const

export type ArenaKind = 'activations' | 'step_input' | 'constants' | (typeof externalArenas)[number]

export interface ArenaPlan {
  readonly kind: ArenaKind
  readonly external: boolean
  /** Bytes of all regions together; `slotBytes * slots` for activations. */
  readonly bytes: number
  /** Sizes of the device buffers that make up the arena, in order; no tensor crosses a boundary. */
  readonly buffers: readonly number[]
  /** Distance between two microbatch slots in bytes; 0 for arenas without slots. */
  readonly slotBytes: number
  /** Hash over the names, offsets and types: two arenas with the same hash are interchangeable. */
  readonly layoutHash: string
  readonly tensors: readonly TensorPlan[]
}

export interface TensorPlan {
  readonly name: string
  readonly type: TensorType
  readonly offset: number
  readonly bytes: number
  /** For activations: first and last step (global index over all segments) at which the bytes must be kept. */
  readonly live?: readonly [first: number, last: number]
  /** For constants: the generator and its attributes. */
  readonly generator?: { readonly name: string; readonly attrs: Attributes }
}

/** A kernel variant: which text, specialised how. The text itself is identified by its hash. */
export interface KernelRef {
  /** Variant name, e.g. `matmul_tile`. */
  readonly name: string
  /** Files of the kernel library that are concatenated, in order. */
  readonly modules: readonly string[]
  /** Values given to module-scope constants. */
  readonly constants: Readonly<Record<string, number | string>>
  /** Hash of the linked text. */
  readonly textHash: string
}

/** A range of an arena; with slots, relative to the slot's start. */
export interface Range {
  readonly arena: ArenaKind
  readonly offset: number
  readonly bytes: number
}

export type Access = 'read' | 'write' | 'read_write'

export interface Binding extends Range {
  /** What the kernel calls it. */
  readonly name: string
  readonly access: Access
}

/** A tensor operand of the op a launch belongs to. */
export interface Operand extends Range {
  readonly type: TensorType
}

export interface OperandCall {
  readonly op: string
  readonly attrs: Attributes
  readonly inputs: Readonly<Record<string, Operand>>
  readonly outputs: Readonly<Record<string, Operand>>
}

/** The static call of a launch's op: types without places. */
export function opCall({ op, attrs, inputs, outputs }: OperandCall): OpCall {
  const types = (operands: Readonly<Record<string, Operand>>) =>
    Object.fromEntries(Object.entries(operands).map(([port, { type }]) => [port, type]))
  return { op, attrs, inputs: types(inputs), outputs: types(outputs) }
}

export interface Launch {
  readonly kind: 'launch'
  /** Position in its segment. */
  readonly index: number
  /** Where it comes from: scope and node, e.g. `layer.3/matmul.17`. */
  readonly name: string
  readonly queue: string
  /** Indices of steps in the same segment that must have finished. */
  readonly after: readonly number[]
  /** Index into Program.kernels. */
  readonly kernel: number
  readonly workgroups: readonly [number, number, number]
  /** In binding order. */
  readonly bindings: readonly Binding[]
  /** The op this launch computes (or a part of); what references, `diff` and `profile` look at. */
  readonly call: OperandCall
  /** Which part, when an op needs several launches. */
  readonly part: readonly [index: number, count: number]
  readonly flops: number
}

/** A copy between arenas, done by the device's copy engine. */
export interface Transfer {
  readonly kind: 'transfer'
  readonly index: number
  readonly name: string
  readonly queue: string
  readonly after: readonly number[]
  readonly from: Range
  readonly to: Range
}

/** One message of an exchange: a range that goes to, or comes from, a member of its group. */
export interface Message extends Range {
  /** Number of the other member in the group; the own number makes it a copy. */
  readonly peer: number
}

/**
 * Messages between ranks that take place together, none waiting for another. Messages from one member to another are
 * matched in order: the k-th send of one exchange is the k-th receive of its counterpart, and exchanges on one channel
 * of a group follow each other in the same order on every member.
 */
export interface Exchange {
  readonly kind: 'exchange'
  readonly index: number
  readonly name: string
  readonly queue: string
  readonly after: readonly number[]
  readonly group: string
  readonly channel: number
  readonly sends: readonly Message[]
  readonly receives: readonly Message[]
}

export type Step = Launch | Transfer | Exchange

export interface SegmentOutput extends Operand {
  readonly name: string
}

export interface Segment {
  readonly name: string
  readonly steps: readonly Step[]
  /** What the host may write before the segment runs. */
  readonly inputs: readonly SegmentOutput[]
  /** What the host may read after it. */
  readonly outputs: readonly SegmentOutput[]
}

/** One entry of a schedule: run this segment on this microbatch slot. */
export interface ScheduleEntry {
  readonly segment: string
  readonly slot: number
}
