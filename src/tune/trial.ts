import type { Executable } from '../../backends/backend.ts'
import type { WebGpuDevice } from '../../backends/webgpu/device.ts'
import type { WebGpuTarget } from '../../backends/webgpu/target.ts'
import type { OpCall } from '../ops/contract.ts'
import { compile } from '../program/compile.ts'
import { Graph } from '../program/graph.ts'
import { hashOf } from '../program/hash.ts'
import type { Program } from '../program/program.ts'

/** A submission is repeated launches that take about this long: the rest of it hardly counts then. */
const ENOUGH_SECONDS = 0.02
const MOST_REPEATS = 256
/** Samples of each in one comparison, and the time after which it has enough. */
const ROUNDS = 9
const LONG_SECONDS = 1.5

/** Tells the time that a candidate takes. */
export type Clock = () => number

/** On a device of its own time passes as on the wall. */
export const wallClock: Clock = () => performance.now() / 1000

/**
 * On a software driver the processor time of this process, all its cores together: what other processes take of the
 * machine does not count, as it would by the wall.
 */
export const processorClock: Clock = () => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

/** The one-op program of a call. */
export function programOf(call: OpCall, target: WebGpuTarget): Program {
  const graph = new Graph(call.op)
  const inputs = Object.fromEntries(
    Object.entries(call.inputs).map(([port, type]) => [port, graph.input(port, type)]),
  )
  const outputs = graph.op(call.op, call.attrs, inputs)
  for (const [port, value] of Object.entries(outputs)) graph.output(port, value)
  return compile(graph, target, { portable: true })
}

/** Names the launches of a program: two that are equal run the same. */
export const launchesOf = ({ kernels, segments }: Program): string =>
  hashOf([
    kernels.map((k) => k.textHash),
    segments.map(({ steps }) => steps.map((s) => (s.kind === 'launch' ? [s.kernel, s.workgroups] : []))),
  ])

/** A call's program, loaded with inputs, to be timed. */
export class Trial {
  private constructor(
    private readonly executable: Executable,
    private readonly steps: { readonly first: number; readonly count: number },
    private readonly clock: Clock,
    /** Its outputs for the inputs that every trial of the call has. */
    readonly outputs: Readonly<Record<string, Uint8Array>>,
    /** To make its kernels. */
    readonly compileSeconds: number,
  ) {}

  /** @param compileSeconds what its kernels took when they were compiled before */
  static async load(
    device: WebGpuDevice,
    call: OpCall,
    inputs: Readonly<Record<string, Uint8Array>>,
    program: Program,
    clock: Clock,
    compileSeconds?: number,
  ): Promise<Trial> {
    const start = clock()
    const executable = await device.load(program)
    const loadSeconds = clock() - start
    const { steps } = program.segments[0]!
    // Besides the op's own launches there may be copies of what it writes over.
    const own = steps.flatMap((s, i) => (s.kind === 'launch' && s.call.op === call.op ? [i] : []))
    const outputs = await executable.step('main', inputs)
    const range = { first: own[0]!, count: own.at(-1)! - own[0]! + 1 }
    return new Trial(executable, range, clock, outputs, compileSeconds ?? loadSeconds)
  }

  /** Seconds of one run, measured over `times` in one submission. */
  async seconds(times: number): Promise<number> {
    await this.executable.finished()
    const start = this.clock()
    this.executable.runSteps('main', this.steps.first, this.steps.count, times)
    await this.executable.finished()
    return (this.clock() - start) / times
  }

  destroy(): void {
    this.executable.destroy()
  }
}

/**
 * Seconds of one run of each of two trials: the least of several samples, taken in turn, so that what else the machine
 * does meets both. A second one that is far behind gets no more.
 */
export async function compare(
  current: Trial,
  candidate: Trial,
): Promise<{ current: number; candidate: number }> {
  const once = await current.seconds(1)
  const times = Math.max(1, Math.min(MOST_REPEATS, Math.round(ENOUGH_SECONDS / Math.max(once, 1e-6))))
  let [a, b] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]
  let spent = 0
  for (let round = 0; round < ROUNDS; round++) {
    a = Math.min(a, await current.seconds(times))
    b = Math.min(b, await candidate.seconds(times))
    spent += (a + b) * times
    if (round >= 1 && (b > 1.5 * a || spent > LONG_SECONDS)) break
  }
  return { current: a, candidate: b }
}
