import { check } from '../../errors.ts'

/**
 * What a rank does at one place of a schedule, for one chunk and one microbatch.
 * - F: forward
 * - B: gradient with respect to the chunk's input, which the previous stage waits for
 * - W: gradient with respect to the chunk's weights; nobody waits for it
 * - BW: both in one go; the input gradient is sent when both are done
 */
export type ActionKind = 'F' | 'B' | 'W' | 'BW'

export interface Action {
  readonly kind: ActionKind
  readonly microbatch: number
  /** Which of the rank's own chunks, from 0. */
  readonly chunk: number
  /** On an F: it may run together with the BW that follows it, each hiding the other's messages. */
  readonly overlaps?: true
}

/**
 * Which rank holds which stage of the model.
 * - round_robin: chunk c of rank r is stage c p + r
 * - v: two chunks a rank; stages go down the ranks and come back, so rank 0 holds the first and the last
 */
export type Placement = 'round_robin' | 'v'

/** p ranks, m microbatches, v chunks a rank. */
export interface Shape {
  readonly p: number
  readonly m: number
  readonly v: number
}

/** Time of one chunk and one microbatch, in any unit. */
export interface Durations {
  readonly forward: number
  readonly backwardInput: number
  readonly backwardWeight: number
  /** Latency of a message from one rank to another. */
  readonly send: number
  /** An F and a BW that overlap, started and ended together. Without it they run one after the other. */
  readonly overlapped?: number
}

/** All actions one unit long, messages free: what the published figures assume. */
export const unitDurations: Durations = { forward: 1, backwardInput: 1, backwardWeight: 1, send: 0 }

/** One schedule as its paper defines it. */
export interface ScheduleDefinition {
  readonly name: string
  readonly title: string
  /** Paper or repository. */
  readonly source: string
  readonly placement: Placement
  /** Chunks a rank when none are asked for. */
  readonly chunks: number
  /** The actions of rank r in order. Called only with a shape that `refuse` lets pass. */
  readonly rank: (r: number, shape: Shape) => Action[]
  /** Why the schedule is not defined for a shape, or undefined where it is. */
  readonly refuse: (shape: Shape) => string | undefined
  /** Bubble as published, as text and in the unit of the durations. */
  readonly bubbleText: string
  readonly bubble: (shape: Shape, durations: Durations) => number
  /**
   * What the published bubble counts: idle time of a rank over the whole step, or of the rank with the longest
   * span only between its own first and last action, as for schedules whose ranks begin and end a step askew.
   */
  readonly bubbleOver: 'step' | 'span'
  /** Most activations of a chunk that any rank holds at once, as published, as text and as a number. */
  readonly peakText: string
  readonly peak: (shape: Shape) => number
  /**
   * Messages from a stage to the next that the sender must be able to buffer for full speed where F = B = W.
   * With one buffer no schedule here deadlocks, but the V-shaped ones take longer.
   */
  readonly sendBuffers: number
}

/** A schedule for given ranks, microbatches and chunks: per rank what it does, in order. */
export interface Schedule extends Shape {
  readonly name: string
  readonly placement: Placement
  readonly ranks: readonly (readonly Action[])[]
}

/** Stages of the whole model: every chunk of every rank. */
export const stageCount = ({ p, v }: Pick<Shape, 'p' | 'v'>): number => p * v

/** Stage, from the model's input, that a rank's chunk holds. */
export const stageOf = (
  placement: Placement,
  { p }: Pick<Shape, 'p'>,
  rank: number,
  chunk: number,
): number => (placement === 'v' && chunk === 1 ? 2 * p - 1 - rank : chunk * p + rank)

/** Rank that holds a stage. */
export const rankOf = (placement: Placement, { p }: Pick<Shape, 'p'>, stage: number): number =>
  placement === 'v' && stage >= p ? 2 * p - 1 - stage : stage % p

/** `F3` with one chunk; with several the chunk is a letter, `F3a`, and past 26 a number, `F3.26`. */
export function actionName({ kind, microbatch, chunk }: Action, v: number): string {
  const suffix = v === 1 ? '' : chunk < 26 ? String.fromCharCode(97 + chunk) : `.${chunk}`
  return `${kind}${microbatch}${suffix}`
}

/**
 * Builds a schedule.
 * @throws invalid_argument when p, m or v is no whole number of at least 1, or the schedule is not defined for them
 */
export function buildSchedule(
  definition: ScheduleDefinition,
  p: number,
  m: number,
  v: number = definition.chunks,
): Schedule {
  for (const [what, n] of [
    ['ranks', p],
    ['microbatches', m],
    ['chunks', v],
  ] as const)
    check(
      Number.isInteger(n) && n >= 1,
      'invalid_argument',
      `${definition.name}: expected a whole number of ${what} of at least 1, got ${n}`,
    )
  const shape = { p, m, v }
  const reason = definition.refuse(shape)
  check(reason === undefined, 'invalid_argument', `${definition.name}: ${reason}`)
  const ranks = Array.from({ length: p }, (_, r) => definition.rank(r, shape))
  return { ...shape, name: definition.name, placement: definition.placement, ranks }
}

/** `refuse` of a schedule with a fixed number of chunks. */
export const onlyChunks =
  (chunks: number) =>
  ({ v }: Shape): string | undefined =>
    v === chunks ? undefined : `expected ${chunks} chunk${chunks === 1 ? '' : 's'} a rank, got ${v}`

/** Appends actions in the order a schedule names them; each chunk takes its microbatches from 0 upwards. */
export class RankWriter {
  readonly actions: Action[] = []
  private readonly forwards: number[] = []
  private readonly backwards: number[] = []
  private open: { readonly microbatch: number; readonly chunk: number }[] = []

  /** The chunk's next forward. */
  F(chunk = 0): void {
    const microbatch = this.forwards[chunk] ?? 0
    this.forwards[chunk] = microbatch + 1
    this.actions.push({ kind: 'F', microbatch, chunk })
  }

  /** The chunk's next backward, both gradients. */
  BW(chunk = 0): void {
    this.actions.push({ kind: 'BW', microbatch: this.backward(chunk), chunk })
  }

  /** A forward of one chunk and a whole backward of another that may run together. */
  FandBW(forwardChunk: number, backwardChunk: number): void {
    this.F(forwardChunk)
    this.actions.push({ ...this.actions.pop()!, overlaps: true })
    this.BW(backwardChunk)
  }

  /** The chunk's next backward, input gradient only; the weight gradient stays open. */
  B(chunk = 0): void {
    const microbatch = this.backward(chunk)
    this.open.push({ microbatch, chunk })
    this.actions.push({ kind: 'B', microbatch, chunk })
  }

  /** The weight gradient that has been open longest, of one chunk or of any. */
  W(chunk?: number): void {
    const next = this.open.find((o) => chunk === undefined || o.chunk === chunk)
    check(next, 'internal', 'a weight gradient without its input gradient')
    this.open = this.open.filter((o) => o !== next)
    this.actions.push({ kind: 'W', ...next })
  }

  private backward(chunk: number): number {
    const microbatch = this.backwards[chunk] ?? 0
    this.backwards[chunk] = microbatch + 1
    return microbatch
  }
}

/** Does `body` n times; schedules are lists of such steps. */
export function times(n: number, body: (i: number) => void): void {
  for (let i = 0; i < n; i++) body(i)
}
