import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'
import { ExactmapError } from '../../src/errors.ts'
import { scheduleNamed, schedules } from '../../src/parallel/schedules/index.ts'
import { timelineSvg, timelineText } from '../../src/parallel/schedules/picture.ts'
import {
  type Action,
  actionName,
  buildSchedule,
  type Durations,
  type Schedule,
  type ScheduleDefinition,
  stageOf,
  unitDurations,
} from '../../src/parallel/schedules/schedule.ts'
import { type Timeline, timeline } from '../../src/parallel/schedules/timeline.ts'

const names = Object.keys(schedules)

/** Shapes a schedule is defined for. */
const shapes = (definition: ScheduleDefinition) =>
  fc
    .record({
      p: fc.integer({ min: 1, max: 9 }),
      m: fc.integer({ min: 1, max: 30 }),
      v: fc.integer({ min: 1, max: 4 }),
    })
    .map(({ p, m, v }) => {
      if (definition.name === 'interleaved') return { p, m: Math.ceil(m / p) * p, v: v + 1 }
      return { p, m: definition.name === 'dualpipe_v' ? m + 2 * p - 1 : m, v: definition.chunks }
    })
const build = (d: ScheduleDefinition, { p, m, v }: { p: number; m: number; v: number }): Schedule =>
  buildSchedule(d, p, m, v)
const lengths = fc.integer({ min: 1, max: 9 })
const durations = fc.record({ forward: lengths, backwardInput: lengths, backwardWeight: lengths })

/** The published kind of bubble, measured. */
const bubbleOf = (d: ScheduleDefinition, time: Timeline): number =>
  d.bubbleOver === 'step' ? Math.max(...time.ranks.map((r) => r.bubble)) : time.longestSpanIdle

function refusal(run: () => unknown): { code: string; message: string } {
  try {
    run()
  } catch (error) {
    if (error instanceof ExactmapError) return { code: error.code, message: error.message }
    throw error
  }
  throw new Error('nothing was refused')
}

describe.each(names)('%s', (name) => {
  const definition = scheduleNamed(name)

  // A line per rank, a column per unit of time with F = B = W = 1; BW fills two. Reads like the papers' figures.
  it('is the golden schedule for 4 ranks and 8 microbatches', () => {
    const schedule = buildSchedule(definition, 4, 8)
    const time = timeline(schedule, unitDurations)
    const units = Array.from({ length: time.total }, (_, t) => t)
    const rows = time.ranks.map(({ actions }, r) => [
      r,
      ...units.map((t) => {
        const action = actions.find((a) => a.start <= t && t < a.end)
        return action ? actionName(action, schedule.v) : ''
      }),
    ])
    const csv = `${[['rank', ...units], ...rows].map((row) => row.join(',')).join('\n')}\n`
    expect(csv).toBe(readFileSync(join(packageRoot(), `test/data/schedules/${name}_p4_m8.csv`), 'utf8'))
  })

  it('has every action once, and every input before its use, also with one send buffer', () => {
    fc.assert(
      fc.property(shapes(definition), durations, fc.integer({ min: 0, max: 3 }), (shape, d, send) => {
        const schedule = build(definition, shape)
        expectExact(schedule, timeline(schedule, { ...d, send }, { sendBuffers: 1 }), send)
      }),
      { numRuns: 60 },
    )
  })

  it('is as fast with the stated send buffers as with any number where F = B = W', () => {
    fc.assert(
      fc.property(shapes(definition), (shape) => {
        const schedule = build(definition, shape)
        const { total } = timeline(schedule, unitDurations, { sendBuffers: definition.sendBuffers })
        expect(total).toBe(timeline(schedule, unitDurations).total)
      }),
      { numRuns: 60 },
    )
  })

  it('holds the published number of activations', () => {
    fc.assert(
      fc.property(shapes(definition), (shape) => {
        expect(timeline(build(definition, shape), unitDurations).peakActivations).toBe(definition.peak(shape))
      }),
    )
  })

  it('has the published bubble where F = B = W', () => {
    fc.assert(
      fc.property(shapes(definition), (shape) => {
        const { p, m } = shape
        // The zero-bubble schedules need enough microbatches; below, this is what remains.
        const short: Record<string, number> = {
          ...(m < p ? { zb_h1: 2 * p - 1 - m } : {}),
          ...(m < 2 * p - 1 ? { zb_v: 2 * (2 * p - 1 - m) } : {}),
        }
        // What the formula of DualPipeV counts on: F&B is a unit of its own.
        const each = { ...unitDurations, ...(name === 'dualpipe_v' ? { overlapped: 3 } : {}) }
        const time = timeline(build(definition, shape), each)
        expect(bubbleOf(definition, time)).toBe(short[name] ?? definition.bubble(shape, each))
      }),
    )
  })

  it('is deterministic, and refuses what is no whole number of at least 1', () => {
    expect(buildSchedule(definition, 3, 9)).toEqual(buildSchedule(definition, 3, 9))
    for (const [p, m, v] of [
      [0, 8, 2],
      [2, 1.5, 2],
      [2, 8, -1],
      [Number.NaN, 8, 2],
    ] as const)
      expect(refusal(() => buildSchedule(definition, p, m, v)).code).toBe('invalid_argument')
  })

  it('is drawn in full as text and SVG', () => {
    const schedule = buildSchedule(definition, 4, 8)
    const time = timeline(schedule, unitDurations)
    const lines = timelineText(schedule, time)
    expect(lines).toHaveLength(4)
    const svg = timelineSvg({ title: 'a < b', schedule, timeline: time })
    expect(svg).toContain('a &lt; b')
    for (const [r, actions] of schedule.ranks.entries()) {
      const labels = actions.map((action) => actionName(action, schedule.v))
      expect(lines[r]!.split(/[ .]+/).slice(2).filter(Boolean)).toEqual(labels)
      for (const label of labels) expect(svg).toContain(`<title>rank ${r}: ${label}, `)
    }
    // Cut at 60 columns and put together again, it is the same text.
    const bands = timelineText(schedule, time, { columns: 60 })
    expect(Math.max(...bands.map((line) => line.length))).toBeLessThanOrEqual(60)
    const joined = lines.map((_, r) =>
      bands
        .filter((line) => line.startsWith(`rank ${r}`))
        .map((line, i) => (i === 0 ? line : line.slice('rank 0  '.length)).padEnd(i === 0 ? 60 : 52))
        .join('')
        .trimEnd(),
    )
    expect(joined).toEqual(lines)
  })
})

/** Every F, B and W of every stage exactly once, none before its inputs, none beside another on its rank. */
function expectExact(schedule: Schedule, time: Timeline, send: number): void {
  const { p, m, v, placement } = schedule
  const wrong: string[] = []
  const when = new Map<string, { start: number; end: number; rank: number }>()
  for (const [rank, { actions }] of time.ranks.entries())
    for (const [i, { kind, microbatch, chunk, start, end }] of actions.entries()) {
      if (i > 0 && start < actions[i - 1]!.end) wrong.push(`rank ${rank}: action ${i} beside another`)
      for (const part of kind === 'BW' ? ['B', 'W'] : [kind]) {
        const key = `${part} ${microbatch} ${stageOf(placement, schedule, rank, chunk)}`
        if (when.has(key)) wrong.push(`${key} twice`)
        when.set(key, { start, end, rank })
      }
    }
  expect(when.size).toBe(3 * m * p * v)
  for (const [key, { start, end, rank }] of when) {
    const [kind, microbatch, stage] = key.split(' ') as [string, string, string]
    if (kind === 'W') {
      // In one go with B, or after it.
      const input = when.get(`B ${microbatch} ${stage}`)!
      if (start < input.end && end !== input.end) wrong.push(`${key} before its B`)
      continue
    }
    const inputs =
      kind === 'F'
        ? [`F ${microbatch} ${Number(stage) - 1}`]
        : [`F ${microbatch} ${stage}`, `B ${microbatch} ${Number(stage) + 1}`]
    for (const input of inputs.flatMap((k) => when.get(k) ?? []))
      if (start < input.end + (input.rank === rank ? 0 : send)) wrong.push(`${key} before its input`)
  }
  expect(wrong).toEqual([])
}

describe('published bubbles with other durations', () => {
  it.each(['gpipe', '1f1b', 'interleaved'])('%s: for any F, B and W', (name) => {
    const definition = scheduleNamed(name)
    fc.assert(
      fc.property(shapes(definition), durations, (shape, d) => {
        const each = { ...d, send: 0 }
        expect(bubbleOf(definition, timeline(build(definition, shape), each))).toBe(
          definition.bubble(shape, each),
        )
      }),
    )
  })

  it('zb_h1: W no longer than F and B, with as many microbatches as ranks', () => {
    const definition = scheduleNamed('zb_h1')
    fc.assert(
      fc.property(shapes(definition), durations, ({ p, m }, d) => {
        const backwardWeight = Math.min(d.forward, d.backwardInput, d.backwardWeight)
        const each = { ...d, backwardWeight, send: 0 }
        const shape = { p, m: m + p - 1, v: 1 }
        expect(bubbleOf(definition, timeline(build(definition, shape), each))).toBe(
          definition.bubble(shape, each),
        )
      }),
    )
  })

  it('dualpipe_v: pairs from B+W to F+B+W', () => {
    const definition = scheduleNamed('dualpipe_v')
    fc.assert(
      fc.property(shapes(definition), fc.integer({ min: 0, max: 8 }), (shape, eighths) => {
        const each = { ...unitDurations, overlapped: 2 + eighths / 8 }
        expect(bubbleOf(definition, timeline(build(definition, shape), each))).toBe(
          definition.bubble(shape, each),
        )
      }),
    )
  })

  it('dualpipe_v: p-1 where a pair runs one after the other', () => {
    const definition = scheduleNamed('dualpipe_v')
    fc.assert(
      fc.property(shapes(definition), (shape) => {
        expect(bubbleOf(definition, timeline(build(definition, shape), unitDurations))).toBe(shape.p - 1)
      }),
    )
  })

  it('zb_v: no rank is idle inside its span, and the step is p-1 longer than the work', () => {
    const definition = scheduleNamed('zb_v')
    fc.assert(
      fc.property(shapes(definition), ({ p, m }) => {
        const time = timeline(buildSchedule(definition, p, m + 2 * p - 2), unitDurations)
        for (const rank of time.ranks) {
          expect(rank.idleInSpan).toBe(0)
          expect(rank.bubble).toBe(p - 1)
        }
      }),
    )
  })
})

describe('peak activations of each rank', () => {
  it.each([
    ['gpipe', [8, 8, 8, 8]],
    ['1f1b', [4, 3, 2, 1]],
    ['interleaved', [11, 9, 7, 5]],
    ['zb_h1', [4, 4, 4, 4]],
    ['zb_v', [8, 8, 8, 8]],
    ['dualpipe_v', [9, 9, 9, 9]],
  ])('%s: %j with 4 ranks and 8 microbatches', (name, peaks) => {
    const time = timeline(buildSchedule(scheduleNamed(name), 4, 8), unitDurations)
    expect(time.ranks.map((rank) => rank.peakActivations)).toEqual(peaks)
  })
})

describe('refusals name what is wrong', () => {
  it.each([
    ['interleaved', 4, 6, 2, /whole groups of p = 4, got 6; 8 would do/],
    ['interleaved', 4, 8, 1, /at least 2 chunks a rank, got 1; 1f1b/],
    ['1f1b', 4, 8, 2, /expected 1 chunk a rank, got 2/],
    ['zb_v', 4, 8, 3, /expected 2 chunks a rank, got 3/],
    ['dualpipe_v', 4, 7, 2, /at least 2p = 8 microbatches, got 7/],
    ['dualpipe_v', 4, 8, 1, /expected 2 chunks a rank, got 1/],
  ] as const)('%s, p %i, m %i, v %i', (name, p, m, v, message) => {
    const { code, message: text } = refusal(() => buildSchedule(scheduleNamed(name), p, m, v))
    expect(code).toBe('invalid_argument')
    expect(text).toMatch(message)
  })

  it.each(['2f2b', 'toString', ''])('an unknown name: %j', (name) => {
    const { code, message } = refusal(() => scheduleNamed(name))
    expect(code).toBe('invalid_argument')
    expect(message).toContain(names.join(', '))
  })
})

describe('the checker', () => {
  const F = (microbatch: number): Action => ({ kind: 'F', microbatch, chunk: 0 })
  const B = (microbatch: number): Action => ({ kind: 'B', microbatch, chunk: 0 })
  const W = (microbatch: number): Action => ({ kind: 'W', microbatch, chunk: 0 })
  const BW = (microbatch: number): Action => ({ kind: 'BW', microbatch, chunk: 0 })
  const own = (m: number, ...ranks: Action[][]): Schedule => ({
    name: 'own',
    placement: 'round_robin',
    p: ranks.length,
    m,
    v: 1,
    ranks,
  })
  const run = (schedule: Schedule, sendBuffers?: number) =>
    timeline(schedule, unitDurations, sendBuffers === undefined ? {} : { sendBuffers })

  it.each<[string, Schedule, RegExp]>([
    ['a missing action', own(1, [F(0), B(0)]), /rank 0: W0 is missing/],
    ['an action twice', own(1, [F(0), F(0), BW(0)]), /rank 0: F0 comes twice/],
    ['a gradient twice', own(1, [F(0), BW(0), W(0)]), /rank 0: W0 comes twice/],
    ['an action from elsewhere', own(1, [F(0), BW(0), F(1)]), /rank 0: F1 is outside of 1 microbatches/],
    ['half a microbatch', own(1, [F(0), BW(0), F(0.5)]), /rank 0: F0.5 is outside/],
    ['a V of one chunk', { ...own(1, [F(0), BW(0)]), placement: 'v' }, /a V has 2 chunks a rank, got 1/],
    ['too few ranks', { ...own(1, [F(0), BW(0)]), p: 2 }, /expected 2 ranks, got 1/],
    [
      'W before its B',
      own(1, [F(0), W(0), B(0)]),
      /deadlock: rank 0 at W0 waits for B of microbatch 0 on stage 0/,
    ],
    [
      'ranks that wait for each other',
      own(2, [F(0), BW(0), F(1), BW(1)], [F(1), BW(1), F(0), BW(0)]),
      /deadlock: rank 0 at BW0 waits for B of microbatch 0 on stage 1; rank 1 at F1 waits for F of microbatch 1 on stage 0/,
    ],
  ])('refuses %s', (_what, schedule, message) => {
    const { code, message: text } = refusal(() => run(schedule))
    expect(code).toBe('invalid_program')
    expect(text).toMatch(message)
  })

  it('sees a deadlock that only too small send buffers cause', () => {
    const schedule = own(2, [F(0), F(1), BW(0), BW(1)], [F(1), BW(1), F(0), BW(0)])
    expect(run(schedule, 2).total).toBe(run(schedule).total)
    expect(refusal(() => run(schedule, 1)).message).toMatch(
      /rank 0 at F1 waits for a send buffer from stage 0 to stage 1; rank 1 at F1 waits for F of microbatch 1/,
    )
  })

  it('refuses durations and buffers that cannot be', () => {
    const schedule = own(1, [F(0), BW(0)])
    for (const forward of [-1, Number.NaN, Number.POSITIVE_INFINITY])
      expect(refusal(() => timeline(schedule, { ...unitDurations, forward }))).toEqual({
        code: 'invalid_argument',
        message: `expected a time for forward, got ${forward}`,
      })
    expect(refusal(() => run(schedule, 0)).message).toBe(
      'expected a whole number of send buffers of at least 1, got 0',
    )
  })

  it('times a case worked by hand', () => {
    const schedule = own(2, [F(0), F(1), B(0), W(0), B(1), W(1)], [F(0), BW(0), F(1), BW(1)])
    const each: Durations = { forward: 2, backwardInput: 3, backwardWeight: 1, send: 0.5 }
    const time = timeline(schedule, each)
    const starts = time.ranks.map(({ actions }) => actions.map(({ start }) => start))
    // Rank 1 has microbatch 0 at 2.5, done at 8.5; its gradient reaches rank 0 at 9.
    expect(starts).toEqual([
      [0, 2, 9, 12, 15, 18],
      [2.5, 4.5, 8.5, 10.5],
    ])
    expect(time.total).toBe(19)
    expect(time.ranks.map(({ busy, bubble, idleInSpan }) => [busy, bubble, idleInSpan])).toEqual([
      [12, 7, 7],
      [12, 7, 0],
    ])
    expect(time.bubbleFraction).toBeCloseTo(7 / 19, 12)
    expect(time.longestSpanIdle).toBe(7)
    expect(time.ranks.map((r) => r.peakActivations)).toEqual([2, 1])
  })
})
