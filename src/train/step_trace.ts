import { type RankEntry, rankEntries } from '../parallel/entries.ts'
import type { Action, ActionKind } from '../parallel/schedules/schedule.ts'
import { type TimedAction, type Timeline, timelineOf } from '../parallel/schedules/timeline.ts'
import type { TraceEvent } from '../parallel/trace.ts'
import { type GatheredTrace, gatherTraces, type RankEvent } from '../parallel/trace.ts'
import type { RankOfMany } from './trainer.ts'

const kinds: Readonly<Record<string, ActionKind>> = {
  forward: 'F',
  backward_input: 'B',
  backward_weight: 'W',
  backward: 'BW',
}

const kindOf = (segment: string): ActionKind | undefined => kinds[segment.replace(/\..*/, '')]

/** What a rank runs in a step as actions of a schedule. A BW that is run in two parts is a B and a W. */
export const actionsOf = (entries: readonly RankEntry[]): Action[] =>
  entries.map(({ segment, microbatch, chunk }) => ({ kind: kindOf(segment)!, microbatch, chunk }))

/** Collects what a rank of a training run does in its latest steps: `add` is the trainer's `onTrace`. */
export class StepTrace {
  private readonly actions: readonly Action[]
  private events: TraceEvent[] = []
  /** The submission that began a step, of those that are kept. */
  private begins: number[] = []
  /** Submissions that are no pass, such as those that end a group of microbatches. */
  private readonly others = new Set<number>()
  private steps = 0

  /**
   * @param recompute of the training configuration
   * @param keep steps before the latest ones are forgotten
   */
  constructor(
    private readonly rank: RankOfMany,
    recompute: 'none' | 'layer',
    private readonly keep = 4,
  ) {
    const { grid, place } = rank
    this.actions = actionsOf(rankEntries(grid.schedule, place.pipeline, recompute === 'layer').entries)
  }

  readonly add = (event: TraceEvent): void => {
    const { name, queue, run } = event
    if (queue === 'compute' && !kindOf(name)) this.others.add(run)
    if (queue === 'compute' && name === 'zero') {
      this.steps++
      this.begins = [...this.begins, run].slice(-this.keep)
      this.events = this.events.filter((kept) => kept.run >= this.begins[0]!)
      for (const other of this.others) if (other < this.begins[0]!) this.others.delete(other)
    }
    this.events.push(event)
  }

  /** The traces of all ranks on rank 0, nothing on the others. Every rank calls it, after its last step. */
  gather(): Promise<GatheredTrace[]> {
    const { grid, place, transport } = this.rank
    const axes = [
      ...(grid.data > 1 ? [`data ${place.data}`] : []),
      ...(grid.schedule.p > 1 ? [`pipeline ${place.pipeline}`] : []),
      ...(grid.tensor > 1 ? [`tensor ${place.tensor}`] : []),
    ]
    const label = `rank ${transport.rank}${axes.length > 1 ? ` (${axes.join(', ')})` : ''}`
    const events = this.events.map((event) => this.named(event))
    return gatherTraces(transport, { label, chunks: grid.schedule.v, events })
  }

  /** A step is `zero` and the entries of the schedule in order, with and before others that every schedule has. */
  private named(event: TraceEvent): RankEvent {
    const { run } = event
    const at = this.begins.findLastIndex((begin) => begin <= run)
    if (at < 0) return event
    const step = this.steps - this.begins.length + at
    if (this.others.has(run)) return { ...event, step }
    const before = [...this.others].filter((other) => other >= this.begins[at]! && other < run).length
    const action = this.actions[run - this.begins[at]! - before]
    return action ? { ...event, step, action } : { ...event, step }
  }
}

/**
 * The steps of a trace as timelines, in milliseconds; a step that not all ranks have is left out. An action lasts from its
 * first launch to its last, messages within it included: those of tensor parallelism, not those between stages.
 */
export function measuredTimelines(traces: readonly GatheredTrace[]): Timeline[] {
  const stepsOf = ({ events }: GatheredTrace): Set<number> =>
    new Set(events.flatMap(({ step, action }) => (action ? step! : [])))
  const [first, ...others] = traces.map(stepsOf)
  return [...first!]
    .filter((step) => others.every((steps) => steps.has(step)))
    .sort((a, b) => a - b)
    .map((step) => timelineOf(fromZero(traces.map(({ events }) => timesOf(events, step)))))
}

/** The actions of a rank in one step. */
function timesOf(events: readonly RankEvent[], step: number): TimedAction[] {
  const byRun = new Map<number, TimedAction>()
  for (const { run, action, start, end, step: of, queue } of events) {
    if (of !== step || queue !== 'compute' || !action) continue
    byRun.set(run, { ...action, start: byRun.get(run)?.start ?? start, end })
  }
  return [...byRun.values()]
}

/** Times from the first action of any rank on, in whole microseconds. */
function fromZero(ranks: readonly (readonly TimedAction[])[]): TimedAction[][] {
  const origin = Math.min(...ranks.map((actions) => actions[0]!.start))
  const since = (time: number): number => Math.round((time - origin) * 1000) / 1000
  return ranks.map((actions) =>
    actions.map((action) => ({ ...action, start: since(action.start), end: since(action.end) })),
  )
}
