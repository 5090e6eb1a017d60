import { check, ExactmapError } from '../../src/errors.ts'
import { requireStaged } from '../../src/program/exchange.ts'
import type { ArenaKind, ArenaPlan, Program, Step } from '../../src/program/program.ts'
import { verifyProgram } from '../../src/program/verify.ts'
import type { Arena, Device, DeviceInfo, Executable, LoadOptions, Outputs, Target } from '../backend.ts'
import { HostArena } from './arena.ts'

/** Cost model of the paced mode: a launch takes the longest of its memory time, its arithmetic time and `launchSeconds`. */
export interface Pace {
  readonly bytesPerSecond: number
  readonly flopsPerSecond: number
  readonly launchSeconds: number
}

/** Modelled time of one step in seconds. Messages take the time they take. */
export function modelledSeconds(step: Step, pace: Pace): number {
  if (step.kind === 'transfer')
    return Math.max(pace.launchSeconds, (2 * step.from.bytes) / pace.bytesPerSecond)
  if (step.kind === 'exchange') return 0
  const bytes = step.bindings.reduce((sum, b) => sum + b.bytes * (b.access === 'read_write' ? 2 : 1), 0)
  return Math.max(pace.launchSeconds, bytes / pace.bytesPerSecond, step.flops / pace.flopsPerSecond)
}

/**
 * Executes nothing. Takes programs of any target: plans, schedules and engines can be tested without a device.
 * With a `pace`, each step of a segment takes its modelled time (queues overlap, dependencies hold), so that
 * schedules of several processes show their real overlap on one machine.
 */
export class NullDevice implements Device {
  readonly info: DeviceInfo
  readonly lost = new Promise<ExactmapError>(() => {})

  constructor(
    readonly target: Target,
    private readonly pace?: Pace,
  ) {
    this.info = { backend: 'null', device: target.name, driver: pace ? 'paced' : 'none' }
  }

  createArena(plan: ArenaPlan): Arena {
    return new HostArena(plan)
  }

  async load(program: Program, options: LoadOptions = {}): Promise<Executable> {
    verifyProgram(program, this.target)
    requireStaged(program)
    const arenas: Partial<Record<ArenaKind, Arena>> = {}
    for (const plan of program.arenas) arenas[plan.kind] = options.arenas?.[plan.kind] ?? new HostArena(plan)
    return new NullExecutable(program, arenas, this.pace)
  }

  destroy(): void {}
}

class NullExecutable implements Executable {
  /** When the work submitted so far ends, in performance.now() milliseconds. */
  private busyUntil = 0

  constructor(
    readonly program: Program,
    readonly arenas: Partial<Record<ArenaKind, Arena>>,
    private readonly pace: Pace | undefined,
  ) {}

  run(name: string, inputs: Record<string, ArrayBufferView> = {}): void {
    const segment = this.program.segments.find((s) => s.name === name)
    if (!segment) throw new ExactmapError('not_found', `no segment '${name}'`, { program: this.program.name })
    for (const [key, view] of Object.entries(inputs)) {
      const input = segment.inputs.find((i) => i.name === key)
      check(
        input && input.bytes === view.byteLength,
        'invalid_argument',
        `segment '${name}' has no input '${key}' of ${view.byteLength} bytes`,
      )
    }
    const { pace } = this
    if (pace)
      this.busyUntil =
        Math.max(this.busyUntil, performance.now()) + 1000 * segmentSeconds(segment.steps, pace)
  }

  runSteps(name: string, first: number, count: number, times = 1): void {
    const { pace } = this
    const steps = this.program.segments.find((s) => s.name === name)?.steps.slice(first, first + count) ?? []
    if (pace)
      this.busyUntil =
        Math.max(this.busyUntil, performance.now()) +
        1000 * times * steps.reduce((sum, step) => sum + modelledSeconds(step, pace), 0)
  }

  async step(name: string, inputs: Record<string, ArrayBufferView> = {}): Promise<Outputs> {
    this.run(name, inputs)
    // Not of what is submitted later.
    await waitUntil(this.busyUntil)
    const { outputs } = this.program.segments.find((s) => s.name === name)!
    return Object.fromEntries(outputs.map((o) => [o.name, new Uint8Array(o.bytes)]))
  }

  finished(): Promise<void> {
    return waitUntil(this.busyUntil)
  }

  destroy(): void {}
}

const asleep = new Int32Array(new SharedArrayBuffer(4))

/**
 * Resolves at a time of performance.now(), 0.1 ms late at most on an idle core. Timers are good to a millisecond; the
 * rest is slept through, which takes no time from other processes of the machine.
 */
async function waitUntil(time: number): Promise<void> {
  for (;;) {
    const left = time - performance.now()
    if (left <= 0) return
    if (left > 2) await new Promise((resolve) => setTimeout(resolve, left - 1.5))
    else Atomics.wait(asleep, 0, 0, left)
  }
}

/** Modelled time of a segment: steps start when their queue is free and what they wait for is done. */
export function segmentSeconds(steps: readonly Step[], pace: Pace): number {
  const queues = new Map<string, number>()
  const ends: number[] = []
  for (const step of steps) {
    const begin = Math.max(queues.get(step.queue) ?? 0, ...step.after.map((i) => ends[i]!))
    const end = begin + modelledSeconds(step, pace)
    queues.set(step.queue, end)
    ends.push(end)
  }
  return Math.max(0, ...ends)
}
