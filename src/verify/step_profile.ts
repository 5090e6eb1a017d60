import type { Device, Executable, Roofline } from '../../backends/backend.ts'
import type { LiveRow } from '../ops/contract.ts'
import { HostClock, type HostTime, hostSeconds } from './host_time.ts'
import { byKernel, type KernelTime, profileSegment, type SegmentTimes } from './profile.ts'
import { sumOfLeast } from './roofline.ts'

/** What a step runs, how often, and where that time goes. Seconds of one run. */
export interface SegmentProfile {
  readonly segment: string
  readonly runs: number
  readonly launches: number
  /** On the device, the segment by itself: from its submission until the host knows that it is done. */
  readonly deviceSeconds: number
  readonly kernelSeconds: number
  readonly kernels: readonly KernelTime[]
}

/** A step as it really runs, and its parts. */
export interface StepProfile {
  readonly name: string
  /** It runs as one kernel, which goes through its launches; by themselves these are measured as launches. */
  readonly oneKernel?: boolean
  /** Of a real step. */
  readonly seconds: number
  /** How many were measured at once; the fastest of several such rounds counts. */
  readonly steps: number
  readonly host: HostTime
  readonly segments: readonly SegmentProfile[]
}

/** The parts of a step; together `StepProfile.seconds`. */
export interface StepParts {
  /** Every launch by itself, repeated. */
  readonly kernels: number
  /** What segments take on the device beyond their kernels: starting, ending, gaps between launches. */
  readonly launching: number
  readonly host: number
  /** What nothing above explains; negative where host and device work at the same time. */
  readonly rest: number
}

export function partsOf({ seconds, host, segments }: StepProfile): StepParts {
  const sum = (of: (one: SegmentProfile) => number): number =>
    segments.reduce((total, one) => total + one.runs * of(one), 0)
  const kernels = sum((one) => one.kernelSeconds)
  const launching = sum((one) => one.deviceSeconds - one.kernelSeconds)
  const busy = hostSeconds(host)
  return { kernels, launching, host: busy, rest: seconds - kernels - launching - busy }
}

/** Kernels of all segments of a step, as often as it runs them, the most expensive first. */
export function kernelsOf({ segments }: StepProfile): KernelTime[] {
  const groups = new Map<string, KernelTime>()
  for (const { runs, kernels } of segments)
    for (const one of kernels) {
      const key = `${one.op} ${one.kernel}`
      groups.set(key, joined(groups.get(key), one, runs))
    }
  return [...groups.values()].sort((a, b) => b.seconds - a.seconds)
}

function joined(before: KernelTime | undefined, one: KernelTime, runs: number): KernelTime {
  const least =
    one.least &&
    sumOfLeast([
      ...(before?.least ? [before.least] : []),
      { ...one.least, seconds: runs * one.least.seconds },
    ])
  return {
    kernel: one.kernel,
    op: one.op,
    count: (before?.count ?? 0) + runs * one.count,
    seconds: (before?.seconds ?? 0) + runs * one.seconds,
    bytesRead: (before?.bytesRead ?? 0) + runs * one.bytesRead,
    bytesWritten: (before?.bytesWritten ?? 0) + runs * one.bytesWritten,
    flops: (before?.flops ?? 0) + runs * one.flops,
    ...(least ? { least } : {}),
  }
}

export interface ProfileContext {
  readonly device: Device
  readonly executable: Executable
  /** Limits to compare kernels with. */
  readonly roofline?: Roofline
  readonly onProgress?: (text: string) => void
}

/** What a round of real steps took, in seconds a step. */
export interface Round {
  readonly seconds: number
  readonly steps: number
  readonly host: HostTime
}

/**
 * The fastest of several rounds of real steps.
 *
 * @param round runs some steps; `clock` is to be started with the first of them
 */
export async function fastestRound(
  { device, executable, onProgress }: ProfileContext,
  name: string,
  rounds: number,
  round: (clock: HostClock) => Promise<Round>,
): Promise<Round> {
  const clock = new HostClock(device, executable)
  try {
    let best: Round | undefined
    for (let i = 0; i < rounds; i++) {
      onProgress?.(`${name}: real steps, round ${i + 1}/${rounds}`)
      const one = await round(clock)
      if (!best || one.seconds < best.seconds) best = one
    }
    return best!
  } finally {
    clock.detach()
  }
}

/**
 * Measures segments by themselves, on what their arenas hold.
 *
 * @param runs how often a step runs each segment
 */
export async function profileSegments(
  { executable, roofline, onProgress }: ProfileContext,
  runs: ReadonlyMap<string, number>,
  rows: readonly LiveRow[],
): Promise<{ segments: SegmentProfile[]; times: SegmentTimes[] }> {
  const segments: SegmentProfile[] = []
  const times: SegmentTimes[] = []
  for (const [name, count] of runs) {
    const segment = executable.program.segments.find((s) => s.name === name)!
    const measured = await profileSegment(executable, segment, (done, total) =>
      onProgress?.(`${name}: launch ${done}/${total}`),
    )
    const kernels = byKernel(measured, rows, roofline)
    times.push(measured)
    segments.push({
      segment: name,
      runs: count,
      launches: measured.launches.length,
      deviceSeconds: measured.deviceSeconds,
      kernelSeconds: kernels.reduce((sum, one) => sum + one.seconds, 0),
      kernels,
    })
  }
  return { segments, times }
}
