import { beforeAll, describe, expect, it } from 'vitest'
import { localTransports } from '../../backends/local_transport.ts'
import { NullDevice } from '../../backends/null/device.ts'
import { referenceTarget } from '../../backends/reference/device.ts'
import type { ChromeEvent, ChromeTrace } from '../../src/formats/chrome_trace.ts'
import { familyOf } from '../../src/models/index.ts'
import { chromeTrace } from '../../src/parallel/chrome_trace.ts'
import { rankEntries } from '../../src/parallel/entries.ts'
import { actionName, stageOf } from '../../src/parallel/schedules/schedule.ts'
import { type GatheredTrace, gatherTraces, type RankEvent } from '../../src/parallel/trace.ts'
import type { TrainingGrid } from '../../src/train/grid.ts'
import { actionsOf, measuredTimelines, StepTrace } from '../../src/train/step_trace.ts'
import { type RankOfMany, Trainer } from '../../src/train/trainer.ts'
import { config, gridOf, models, placesOf, randomBatches } from '../ranks/grid.ts'

const MICROBATCHES = 4
const STEPS = 2
const grid = gridOf({ pipeline: 2, schedule: 'zb_v' }, MICROBATCHES)
const { schedule } = grid

/** Three steps of a training run whose ranks are in this process; the last two are kept. */
async function traced(of: TrainingGrid): Promise<GatheredTrace[]> {
  const family = familyOf(models.llama)
  const shape = family.parse(models.llama)
  const train = config(MICROBATCHES, { gradient_groups: of.groups ?? 1 })
  const device = new NullDevice(referenceTarget)
  const transports = localTransports(of.schedule.p)
  const gathered = placesOf(of).map(async (place, r) => {
    const rank: RankOfMany = {
      grid: of,
      place,
      transport: transports[r]!,
      rankAt: ({ pipeline }) => pipeline,
    }
    const trace = new StepTrace(rank, 'none', STEPS)
    const trainer = await Trainer.create(device, family, shape, train, { rank, onTrace: trace.add })
    trainer.initialise()
    while (trainer.step < STEPS + 1) await trainer.train(randomBatches(train, shape.vocab))
    await trainer.evaluate(randomBatches(train, shape.vocab), 2)
    await trainer.executable.finished()
    return trace.gather()
  })
  const [traces, ...nothing] = await Promise.all(gathered)
  expect(nothing.flat()).toEqual([])
  return traces!
}

/** Names of the actions of both steps that a rank's trace must have. */
const actionNames = ({ schedule }: TrainingGrid, rank: number): string[] => {
  const actions = actionsOf(rankEntries(schedule, rank, false).entries)
  return [...actions, ...actions].map((action) => actionName(action, schedule.v))
}

describe('a trace of two ranks', () => {
  let traces: GatheredTrace[] = []
  let chrome: ChromeTrace = { traceEvents: [], displayTimeUnit: 'ms' }
  beforeAll(async () => {
    traces = await traced(grid)
    chrome = JSON.parse(JSON.stringify(chromeTrace(traces)))
  })
  const phase = <P extends ChromeEvent['ph']>(ph: P): Extract<ChromeEvent, { ph: P }>[] =>
    chrome.traceEvents.filter((event): event is Extract<ChromeEvent, { ph: P }> => event.ph === ph)
  const executed = (rank: number) => actionsOf(rankEntries(schedule, rank, false).entries)

  it('has the fields of the Trace Event Format', () => {
    const fields = {
      M: ['args', 'name', 'ph', 'pid', 'tid'],
      X: ['args', 'cat', 'dur', 'name', 'ph', 'pid', 'tid', 'ts'],
      s: ['cat', 'id', 'name', 'ph', 'pid', 'tid', 'ts'],
      f: ['bp', 'cat', 'id', 'name', 'ph', 'pid', 'tid', 'ts'],
    }
    for (const event of chrome.traceEvents) {
      expect(Object.keys(event).sort()).toEqual(fields[event.ph])
      expect(Number.isInteger(event.pid) && Number.isInteger(event.tid)).toBe(true)
      if ('ts' in event) expect(event.ts).toBeGreaterThanOrEqual(0)
      if ('dur' in event) expect(event.dur).toBeGreaterThan(0)
    }
    expect(Math.min(...phase('X').map(({ ts }) => ts))).toBe(0)
  })

  it('names a process for every rank and the threads of its queues', () => {
    const named = (what: string) =>
      phase('M').flatMap(({ name, pid, args }) => (name === what ? [[pid, args.name]] : []))
    expect(named('process_name')).toEqual([
      [1, 'rank 0'],
      [2, 'rank 1'],
    ])
    for (const pid of [1, 2])
      expect(new Set(named('thread_name').flatMap(([of, name]) => (of === pid ? [name] : [])))).toEqual(
        new Set(['compute', 'receives', 'sends']),
      )
  })

  it.each([0, 1])('shows the actions of the schedule on rank %i, of the steps that were kept', (rank) => {
    const names = actionNames(grid, rank)
    const shown = phase('X').filter(
      (x) => x.pid === rank + 1 && x.cat === 'compute' && /\d[ab]$/.test(x.name),
    )
    expect(shown.map(({ name }) => name)).toEqual(names)
    expect(shown.map(({ args }) => args.step)).toEqual(names.map((_, i) => (i < names.length / 2 ? 1 : 2)))
  })

  it('has slices that do not cross on any thread', () => {
    const slices = phase('X').sort((a, b) => a.pid - b.pid || a.tid - b.tid || a.ts - b.ts)
    for (const [i, { pid, tid, ts, dur }] of slices.entries()) {
      const next = slices[i + 1]
      if (next?.pid === pid && next.tid === tid) expect(ts + dur).toBeLessThanOrEqual(next.ts + 1e-6)
    }
  })

  it('draws an arrow from every send to its receive', () => {
    const [starts, ends] = [phase('s'), phase('f')]
    const around = ({ pid, tid, ts }: { pid: number; tid: number; ts: number }) =>
      phase('X').find((x) => x.pid === pid && x.tid === tid && x.ts <= ts && ts <= x.ts + x.dur)!
    // Stages that follow each other on two ranks send forward and back.
    const crossings = 2 * (schedule.p * schedule.v - 2) * MICROBATCHES * STEPS
    const ofSteps = starts.filter((s) => /^[FB]\d/.test(around(s).name))
    expect(ofSteps).toHaveLength(crossings)
    expect(ends.map(({ id }) => id)).toEqual(starts.map(({ id }) => id))
    expect(new Set(starts.map(({ id }) => id)).size).toBe(starts.length)
    for (const [i, start] of starts.entries()) {
      const [from, to] = [around(start), around(ends[i]!)]
      expect(ends[i]!.ts).toBeGreaterThan(start.ts)
      expect([from.cat, to.cat]).toEqual(['send', 'receive'])
      const passed = /^[FB]\d+/.exec(from.name)?.[0] ?? 'exchange'
      expect(to.name).toMatch(new RegExp(`^${passed}.* from ${from.pid - 1}$`))
    }
  })

  it('gives every step as a timeline: same order, nothing before what it waits for', () => {
    const timelines = measuredTimelines(traces)
    expect(timelines).toHaveLength(STEPS)
    for (const { ranks, total } of timelines) {
      const ends = new Map<string, number>()
      for (const [r, { actions, busy, bubble }] of ranks.entries()) {
        expect(actions.map(({ kind, microbatch, chunk }) => ({ kind, microbatch, chunk }))).toEqual(
          executed(r),
        )
        expect(busy + bubble).toBeCloseTo(total, 9)
        for (const { kind, microbatch, chunk, end } of actions)
          ends.set(`${kind} ${microbatch} ${stageOf('v', schedule, r, chunk)}`, end)
      }
      for (const [r, { actions }] of ranks.entries())
        for (const { kind, microbatch, chunk, start } of actions) {
          const stage = stageOf('v', schedule, r, chunk)
          const before = kind === 'F' ? `F ${microbatch} ${stage - 1}` : `B ${microbatch} ${stage + 1}`
          if (kind !== 'W' && ends.has(before)) expect(start).toBeGreaterThanOrEqual(ends.get(before)!)
        }
      expect(ranks[0]!.actions[0]!.start).toBe(0)
    }
  })
})

it('names the actions also where other segments run between them', async () => {
  const grouped: TrainingGrid = { ...gridOf({ schedule: '1f1b' }, MICROBATCHES), groups: 2 }
  const { traceEvents } = chromeTrace(await traced(grouped))
  const names = traceEvents.flatMap(({ ph, name }) => (ph === 'X' ? [name] : []))
  expect(names.filter((name) => name === 'group')).toHaveLength(2 * STEPS)
  expect(names.filter((name) => /^[FBW]\d+$/.test(name))).toEqual(actionNames(grouped, 0))
})

it('brings times of clocks that differ to that of rank 0', async () => {
  const skews = [0, 5000, -70]
  const begin = performance.now()
  const gathered = localTransports(3).map((transport, rank) => {
    const clock = (): number => performance.now() + skews[rank]!
    const at = begin + skews[rank]!
    const event: RankEvent = {
      ...{ name: 'x', queue: 'compute', start: at, end: at + 1, slot: 0, run: 0, messages: [] },
    }
    return gatherTraces(transport, { label: `${rank}`, chunks: 1, events: [event] }, clock)
  })
  const [traces] = await Promise.all(gathered)
  for (const { events, clockError } of traces!) {
    expect(clockError).toBeLessThan(50)
    expect(Math.abs(events[0]!.start - begin)).toBeLessThanOrEqual(clockError + 1e-6)
    expect(events[0]!.end - events[0]!.start).toBeCloseTo(1, 6)
  }
})
