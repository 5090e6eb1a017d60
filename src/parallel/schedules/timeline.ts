import { check } from '../../errors.ts'
import {
  type Action,
  type ActionKind,
  actionName,
  type Durations,
  rankOf,
  type Schedule,
  stageCount,
  stageOf,
} from './schedule.ts'

/** An action with its time, in the unit of the durations. */
export interface TimedAction extends Action {
  readonly start: number
  readonly end: number
}

export interface RankTimeline {
  readonly actions: readonly TimedAction[]
  /** Time in actions. */
  readonly busy: number
  /** Idle time over the whole step, which ends with the last action of any rank. */
  readonly bubble: number
  /** Idle time between the rank's own first and last action. */
  readonly idleInSpan: number
  /** Most chunk activations held at once, from the start of F to the end of W or BW. */
  readonly peakActivations: number
}

export interface Timeline {
  readonly ranks: readonly RankTimeline[]
  /** From the first action's start to the last one's end. */
  readonly total: number
  /** Idle share of all ranks together, 0 to 1. */
  readonly bubbleFraction: number
  /** Idle time of the rank whose first to last action takes longest, between those two. */
  readonly longestSpanIdle: number
  readonly peakActivations: number
}

export interface TimelineOptions {
  /**
   * Messages from one stage to the next (or back) that may be under way: a place is taken when the action that
   * writes the message starts and free again when the action that reads it starts. Default: any number.
   */
  readonly sendBuffers?: number
}

/**
 * Checks that every microbatch passes every chunk forward and backward exactly once, on the rank that holds it.
 * @throws invalid_program naming rank and action
 */
export function checkComplete(schedule: Schedule): void {
  const { p, m, v, placement, ranks, name } = schedule
  check(ranks.length === p, 'invalid_program', `${name}: expected ${p} ranks, got ${ranks.length}`)
  check(
    placement === 'round_robin' || v === 2,
    'invalid_program',
    `${name}: a V has 2 chunks a rank, got ${v}`,
  )
  const among = (n: number, count: number): boolean => Number.isInteger(n) && n >= 0 && n < count
  const key = (kind: string, microbatch: number, chunk: number): string => `${kind} ${microbatch} ${chunk}`
  for (const [r, actions] of ranks.entries()) {
    const seen = new Set<string>()
    for (const action of actions) {
      const { kind, microbatch, chunk } = action
      const text = `${name}: rank ${r}: ${actionName(action, v)}`
      const known = among(microbatch, m) && among(chunk, v)
      check(known, 'invalid_program', `${text} is outside of ${m} microbatches and ${v} chunks`)
      for (const part of kind === 'BW' ? ['B', 'W'] : [kind]) {
        check(!seen.has(key(part, microbatch, chunk)), 'invalid_program', `${text} comes twice`)
        seen.add(key(part, microbatch, chunk))
      }
    }
    for (const kind of ['F', 'B', 'W'] as const)
      for (let microbatch = 0; microbatch < m; microbatch++)
        for (let chunk = 0; chunk < v; chunk++)
          check(
            seen.has(key(kind, microbatch, chunk)),
            'invalid_program',
            () => `${name}: rank ${r}: ${actionName({ kind, microbatch, chunk }, v)} is missing`,
          )
  }
}

/**
 * Runs a schedule: each rank takes its actions in order, each as early as its inputs and the send buffers allow.
 * Needed are: for F the F of the stage before; for B or BW the F of its own stage and the B or BW of the stage
 * after; for W its own B.
 * @throws invalid_argument for a negative or infinite duration, or less than one send buffer;
 * invalid_program for an incomplete schedule, or one that deadlocks, with what every rank waits for
 */
export function timeline(schedule: Schedule, durations: Durations, options: TimelineOptions = {}): Timeline {
  for (const [what, time] of Object.entries(durations))
    check(
      time >= 0 && time < Number.POSITIVE_INFINITY,
      'invalid_argument',
      `expected a time for ${what}, got ${time}`,
    )
  const { sendBuffers = Number.POSITIVE_INFINITY } = options
  check(
    sendBuffers >= 1 && (Number.isInteger(sendBuffers) || sendBuffers === Number.POSITIVE_INFINITY),
    'invalid_argument',
    `expected a whole number of send buffers of at least 1, got ${sendBuffers}`,
  )
  checkComplete(schedule)
  return timelineOf(new Run(schedule, durations, sendBuffers).all())
}

/** The timeline of actions that have their times, planned or measured: of every rank in order, the first at 0. */
export function timelineOf(timed: readonly (readonly TimedAction[])[]): Timeline {
  const total = Math.max(...timed.map((actions) => actions.at(-1)!.end))
  const ranks = timed.map((actions) => rankTimeline(actions, total))
  const work = ranks.reduce((sum, r) => sum + r.busy, 0)
  const longest = ranks.reduce((a, b) => (span(b) > span(a) ? b : a))
  return {
    ranks,
    total,
    bubbleFraction: total > 0 ? 1 - work / (total * ranks.length) : 0,
    longestSpanIdle: longest.idleInSpan,
    peakActivations: Math.max(...ranks.map((r) => r.peakActivations)),
  }
}

const span = ({ actions }: RankTimeline): number => actions.at(-1)!.end - actions[0]!.start

function rankTimeline(actions: readonly TimedAction[], total: number): RankTimeline {
  // Two actions that overlap have one time in common; it counts once.
  const busy = actions.reduce(
    (sum, { start, end }, i) => sum + (actions[i - 1]?.end === end ? 0 : end - start),
    0,
  )
  let [held, peakActivations] = [0, 0]
  for (const { kind } of actions) {
    if (kind === 'F') peakActivations = Math.max(peakActivations, ++held)
    if (kind === 'W' || kind === 'BW') held--
  }
  const idleInSpan = actions.at(-1)!.end - actions[0]!.start - busy
  return { actions, busy, bubble: total - busy, idleInSpan, peakActivations }
}

/** An action whose result another one needs. */
interface Need {
  readonly kind: 'F' | 'B'
  readonly stage: number
}

class Run {
  /** When the results of F and B are there, by microbatch and stage; NaN while they are not. */
  private readonly ends: Readonly<Record<'F' | 'B', Float64Array>>
  /** Per stage and next stage: how many messages were begun, and when each was read. */
  private readonly sent = new Map<string, number>()
  private readonly read = new Map<string, number[]>()

  constructor(
    private readonly schedule: Schedule,
    private readonly durations: Durations,
    private readonly sendBuffers: number,
  ) {
    const none = (): Float64Array => new Float64Array(schedule.m * stageCount(schedule)).fill(Number.NaN)
    this.ends = { F: none(), B: none() }
  }

  all(): TimedAction[][] {
    const { ranks, v, name } = this.schedule
    const timed: TimedAction[][] = ranks.map(() => [])
    const next = (r: number): readonly Action[] => this.together(ranks[r]!, timed[r]!.length)
    const free = (r: number): number => timed[r]!.at(-1)?.end ?? 0
    for (let moved = true; moved; ) {
      moved = false
      for (const r of ranks.keys())
        for (let actions = next(r); actions.length > 0; actions = next(r)) {
          const starts = actions.map((action) => this.earliest(r, action))
          if (starts.some((start) => typeof start === 'string')) break
          const start = Math.max(free(r), ...(starts as number[]))
          const end = start + this.length(actions)
          for (const action of actions) {
            this.commit(r, action, start, end)
            timed[r]!.push({ ...action, start, end })
          }
          moved = true
        }
    }
    const stuck = ranks.flatMap((_, r) =>
      next(r).flatMap((action) => {
        const reason = this.earliest(r, action)
        return typeof reason === 'string' ? [`rank ${r} at ${actionName(action, v)} waits for ${reason}`] : []
      }),
    )
    check(stuck.length === 0, 'invalid_program', `${name}: deadlock: ${stuck.join('; ')}`)
    return timed
  }

  /** The action at a place of a rank's list, with the one that overlaps it; empty at the end. */
  private together(actions: readonly Action[], at: number): readonly Action[] {
    const overlap = this.durations.overlapped !== undefined && actions[at]?.overlaps
    return actions.slice(at, at + (overlap ? 2 : 1))
  }

  private length(actions: readonly Action[]): number {
    const { forward, backwardInput, backwardWeight, overlapped } = this.durations
    if (actions.length > 1) return overlapped!
    const lengths: Record<ActionKind, number> = {
      F: forward,
      B: backwardInput,
      W: backwardWeight,
      BW: backwardInput + backwardWeight,
    }
    return lengths[actions[0]!.kind]
  }

  /** When inputs and a place for the output are there, or what has to come first. */
  private earliest(r: number, { kind, microbatch, chunk }: Action): number | string {
    const stage = this.stage(r, chunk)
    let start = 0
    for (const need of this.needs(kind, stage)) {
      const end = this.ends[need.kind][this.slot(microbatch, need.stage)]!
      if (Number.isNaN(end)) return `${need.kind} of microbatch ${microbatch} on stage ${need.stage}`
      start = Math.max(start, end + (this.crosses(need.stage, stage) ? this.durations.send : 0))
    }
    const receiver = this.receiver(kind, stage)
    const before = (this.sent.get(`${stage} ${receiver}`) ?? 0) - this.sendBuffers
    if (receiver === undefined || before < 0) return start
    const place = this.read.get(`${stage} ${receiver}`)?.[before]
    return place === undefined
      ? `a send buffer from stage ${stage} to stage ${receiver}`
      : Math.max(start, place)
  }

  private commit(r: number, { kind, microbatch, chunk }: Action, start: number, end: number): void {
    const stage = this.stage(r, chunk)
    const receiver = this.receiver(kind, stage)
    const channel = `${stage} ${receiver}`
    if (receiver !== undefined) this.sent.set(channel, (this.sent.get(channel) ?? 0) + 1)
    for (const need of this.needs(kind, stage)) {
      if (!this.crosses(need.stage, stage)) continue
      const from = `${need.stage} ${stage}`
      const reads = this.read.get(from)
      if (reads) reads.push(start)
      else this.read.set(from, [start])
    }
    if (kind !== 'W') this.ends[kind === 'F' ? 'F' : 'B'][this.slot(microbatch, stage)] = end
  }

  private needs(kind: ActionKind, stage: number): Need[] {
    if (kind === 'F') return stage > 0 ? [{ kind: 'F', stage: stage - 1 }] : []
    if (kind === 'W') return [{ kind: 'B', stage }]
    const own: Need = { kind: 'F', stage }
    return stage + 1 < stageCount(this.schedule) ? [own, { kind: 'B', stage: stage + 1 }] : [own]
  }

  /** The stage on another rank that an action's result is sent to. */
  private receiver(kind: ActionKind, stage: number): number | undefined {
    const to = kind === 'F' ? stage + 1 : stage - 1
    const some = kind !== 'W' && to >= 0 && to < stageCount(this.schedule) && this.crosses(stage, to)
    return some ? to : undefined
  }

  private slot(microbatch: number, stage: number): number {
    return microbatch * stageCount(this.schedule) + stage
  }

  private stage(r: number, chunk: number): number {
    return stageOf(this.schedule.placement, this.schedule, r, chunk)
  }

  private crosses(from: number, to: number): boolean {
    const { placement } = this.schedule
    return rankOf(placement, this.schedule, from) !== rankOf(placement, this.schedule, to)
  }
}
