import type { Executable } from '../../backends/backend.ts'
import type { ChromeEvent, ChromeTrace } from '../formats/chrome_trace.ts'
import type { Launch, Segment } from '../program/program.ts'

/** One launch of a segment and how long it takes alone. */
export interface LaunchTime {
  readonly launch: Launch
  readonly kernel: string
  readonly seconds: number
}

export interface SegmentTimes {
  readonly segment: string
  /** Best time of the whole segment: submit, all launches, wait. */
  readonly stepSeconds: number
  readonly launches: readonly LaunchTime[]
}

/** What a group of equal launches costs together. */
export interface KernelTime {
  readonly kernel: string
  readonly op: string
  readonly count: number
  readonly seconds: number
  /** Bytes bound and operations done per second; undefined where a launch touches only part of what it binds. */
  readonly bytesPerSecond: number | undefined
  readonly flopsPerSecond: number
}

/** Ops that look single rows or pages up in what they bind: bytes bound over time would mean nothing. */
const lookups = new Set(['embedding', 'tokens_read', 'tokens_write', 'kv_write', 'attention_paged'])

/**
 * A launch is repeated until one submission takes this long: submitting and waiting hardly count then, and another
 * process is not likely to have interfered with all of the samples.
 */
const ENOUGH_SECONDS = 0.004
const MOST_REPEATS = 1024
const SAMPLES = 7

/**
 * Times a loaded segment on what its arenas hold; run it once with real inputs before.
 *
 * Each kernel is repeated within one submission and divided, the fastest of seven. Timestamp queries would do on
 * most GPUs, but software drivers round them to 65.5 us, more than most launches take. Launches of one kernel on
 * one grid with equal bindings sizes are taken to cost the same, and measured once.
 */
export async function profileSegment(
  executable: Executable,
  segment: Segment,
  onProgress: (done: number, total: number) => void = () => {},
): Promise<SegmentTimes> {
  const timed = async (body: () => void): Promise<number> => {
    await executable.finished()
    const start = performance.now()
    body()
    await executable.finished()
    return (performance.now() - start) / 1000
  }
  const best = async (body: () => void): Promise<number> => {
    let least = Number.POSITIVE_INFINITY
    for (let i = 0; i < SAMPLES; i++) least = Math.min(least, await timed(body))
    return least
  }

  const stepSeconds = await best(() => executable.runSteps(segment.name, 0, segment.steps.length))
  const idle = await best(() => executable.runSteps(segment.name, 0, 0))
  const known = new Map<string, number>()
  const launches: LaunchTime[] = []
  for (const [i, launch] of segment.steps.entries()) {
    if (launch.kind !== 'launch') continue
    const key = JSON.stringify([launch.kernel, launch.workgroups, launch.bindings.map((b) => b.bytes)])
    let seconds = known.get(key)
    if (seconds === undefined) {
      let times = 1
      while (
        times < MOST_REPEATS &&
        (await timed(() => executable.runSteps(segment.name, i, 1, times))) < ENOUGH_SECONDS
      )
        times *= 4
      const all = await best(() => executable.runSteps(segment.name, i, 1, times))
      seconds = Math.max(0, all - idle) / times
      known.set(key, seconds)
    }
    launches.push({ launch, kernel: executable.program.kernels[launch.kernel]!.name, seconds })
    onProgress(i + 1, segment.steps.length)
  }
  return { segment: segment.name, stepSeconds, launches }
}

/** Launches by op and kernel variant, the most expensive first. */
export function byKernel({ launches }: SegmentTimes): KernelTime[] {
  const groups = new Map<string, LaunchTime[]>()
  for (const one of launches) {
    const key = `${one.launch.call.op} ${one.kernel}`
    groups.set(key, [...(groups.get(key) ?? []), one])
  }
  const sum = (list: readonly LaunchTime[], of: (one: LaunchTime) => number): number =>
    list.reduce((total, one) => total + of(one), 0)
  return [...groups.values()]
    .map((list): KernelTime => {
      const { op } = list[0]!.launch.call
      const seconds = sum(list, (one) => one.seconds)
      const bytes = sum(list, ({ launch }) =>
        launch.bindings.reduce((n, b) => n + b.bytes * (b.access === 'read_write' ? 2 : 1), 0),
      )
      return {
        kernel: list[0]!.kernel,
        op,
        count: list.length,
        seconds,
        bytesPerSecond: lookups.has(op) ? undefined : bytes / seconds,
        flopsPerSecond: sum(list, ({ launch }) => launch.flops) / seconds,
      }
    })
    .sort((a, b) => b.seconds - a.seconds)
}

/** A process per segment, a thread per queue, a slice per launch with its time alone, one after the other. */
export function profileTrace(segments: readonly SegmentTimes[]): ChromeTrace {
  const traceEvents = segments.flatMap(({ segment, launches }, pid): ChromeEvent[] => {
    const queues = [...new Set(launches.map(({ launch }) => launch.queue))]
    const ends = new Map<string, number>()
    return [
      { ph: 'M', name: 'process_name', pid, tid: 0, args: { name: segment } },
      ...queues.map((queue, tid) => ({
        ph: 'M' as const,
        name: 'thread_name',
        pid,
        tid,
        args: { name: queue },
      })),
      ...launches.map(({ launch, kernel, seconds }) => {
        const { name, queue, workgroups, call } = launch
        const ts = ends.get(queue) ?? 0
        ends.set(queue, ts + seconds * 1e6)
        const args = { kernel, grid: workgroups.join('x'), op: call.op, flops: launch.flops }
        const tid = queues.indexOf(queue)
        return { ph: 'X' as const, name, cat: call.op, pid, tid, ts, dur: seconds * 1e6, args }
      }),
    ]
  })
  return { displayTimeUnit: 'ms', traceEvents }
}
