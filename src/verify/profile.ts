import type { Executable, Roofline } from '../../backends/backend.ts'
import type { ChromeEvent, ChromeTrace } from '../formats/chrome_trace.ts'
import type { LiveRow } from '../ops/contract.ts'
import type { Launch, Segment } from '../program/program.ts'
import { type LaunchWork, launchWork, sumOfWork } from '../program/work.ts'
import { type Least, leastTime, sumOfLeast } from './roofline.ts'

/** One launch of a segment and how long it takes alone. */
export interface LaunchTime {
  readonly launch: Launch
  readonly kernel: string
  readonly seconds: number
}

export interface SegmentTimes {
  readonly segment: string
  /** Best time of the whole segment on the device: from its submission until the host knows that it is done. */
  readonly deviceSeconds: number
  readonly launches: readonly LaunchTime[]
}

/** What a group of equal launches costs together. */
export interface KernelTime extends LaunchWork {
  readonly kernel: string
  readonly op: string
  readonly count: number
  readonly seconds: number
  /** What the device could do it in, where its limits were measured. */
  readonly least?: Least
}

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
  // What encoding takes is the host's time: the device starts when all is submitted.
  const timed = async (body: () => void): Promise<number> => {
    await executable.finished()
    body()
    const start = performance.now()
    await executable.finished()
    return (performance.now() - start) / 1000
  }
  const best = async (body: () => void, samples = SAMPLES): Promise<number> => {
    let least = Number.POSITIVE_INFINITY
    for (let i = 0; i < samples; i++) least = Math.min(least, await timed(body))
    return least
  }

  const deviceSeconds = await best(() => executable.runSteps(segment.name, 0, segment.steps.length))
  const idle = await best(() => executable.runSteps(segment.name, 0, 0))
  const known = new Map<string, number>()
  const launches: LaunchTime[] = []
  for (const [i, launch] of segment.steps.entries()) {
    if (launch.kind !== 'launch') continue
    const key = JSON.stringify([launch.kernel, launch.workgroups, launch.bindings.map((b) => b.bytes)])
    let seconds = known.get(key)
    if (seconds === undefined) {
      let times = 1
      // Of two samples, lest an interruption be taken for work.
      while (
        times < MOST_REPEATS &&
        (await best(() => executable.runSteps(segment.name, i, 1, times), 2)) < ENOUGH_SECONDS
      )
        times *= 4
      const all = await best(() => executable.runSteps(segment.name, i, 1, times))
      seconds = Math.max(0, all - idle) / times
      known.set(key, seconds)
    }
    launches.push({ launch, kernel: executable.program.kernels[launch.kernel]!.name, seconds })
    onProgress(i + 1, segment.steps.length)
  }
  return { segment: segment.name, deviceSeconds, launches }
}

/** Launches by op and kernel variant, the most expensive first. */
export function byKernel(
  { launches }: Pick<SegmentTimes, 'launches'>,
  rows: readonly LiveRow[],
  roofline?: Roofline,
): KernelTime[] {
  const groups = new Map<string, LaunchTime[]>()
  for (const one of launches) {
    const key = `${one.launch.call.op} ${one.kernel}`
    groups.set(key, [...(groups.get(key) ?? []), one])
  }
  return [...groups.values()]
    .map((list): KernelTime => {
      const works = list.map(({ launch }) => launchWork(launch, rows))
      return {
        kernel: list[0]!.kernel,
        op: list[0]!.launch.call.op,
        count: list.length,
        seconds: list.reduce((sum, one) => sum + one.seconds, 0),
        ...sumOfWork(works),
        ...(roofline ? { least: sumOfLeast(works.map((work) => leastTime(work, roofline))) } : {}),
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
