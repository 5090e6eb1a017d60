import type { WebGpuDevice } from '../../backends/webgpu/device.ts'
import type { Choice, Decision } from '../../backends/webgpu/kernels/parameter.ts'
import type { TunedChoice, TuningEntry } from '../../backends/webgpu/tuning.ts'
import { ExactmapError } from '../errors.ts'
import type { OpCall } from '../ops/contract.ts'
import { vectorsOf, whyNonconforming } from './conformance.ts'
import { inputsOf } from './inputs.ts'
import { type Clock, compare, launchesOf, programOf, Trial } from './trial.ts'

/** Runs that share the cost of compiling a kernel: a launch in each of ten layers, for a hundred tokens. */
const RUNS = 1000
/** A gain below this is noise. */
const LEAST_GAIN = 1.04

interface Times {
  readonly runSeconds: number
  readonly compileSeconds: number
}

const cost = ({ runSeconds, compileSeconds }: Times): number => runSeconds + compileSeconds / RUNS

/** A candidate may not run slower, and its run with its share of compiling must take clearly less. */
const isBetter = (candidate: Times, current: Times): boolean =>
  candidate.runSeconds <= current.runSeconds && cost(candidate) * LEAST_GAIN <= cost(current)

/** What became of one choice that was tried. */
export interface Tried {
  readonly choice: Choice
  /** Time of the choice before it over its own; absent where it never ran. */
  readonly ratio?: number
  readonly compileMs?: number
  readonly verdict: 'taken' | 'no gain' | 'compiles too long' | 'refused'
  /** Of a refusal. */
  readonly reason?: string
}

/** What was found for one decision. */
export interface Found {
  readonly entry: TuningEntry
  readonly heuristic: Choice
  readonly tried: readonly Tried[]
}

/** All values of one decision that differ from its heuristics in one parameter at a time, for `--dry-run`. */
export const alternatives = ({ options }: Decision): Choice[] =>
  Object.entries(options).flatMap(([name, { values, heuristic }]) =>
    values.filter((value) => value !== heuristic).map((value) => ({ [name]: value })),
  )

export const heuristicsOf = ({ options }: Decision): Choice =>
  Object.fromEntries(Object.entries(options).map(([name, { heuristic }]) => [name, heuristic]))

/** Finds choices on one device. It keeps what it learnt of kernel texts and of conformance. */
export class Search {
  private readonly compileSeconds = new Map<string, number>()
  private readonly conformance = new Map<string, string | undefined>()

  constructor(
    private readonly device: WebGpuDevice,
    private readonly clock: Clock,
    /** Throws when the time is over. */
    private readonly goOn: () => void,
  ) {}

  /**
   * Finds the best choice for one decision of a call: parameter by parameter, each value against the best so far, in
   * turn. A candidate is refused unless its outputs are those of the heuristics to the bit and it passes the op's
   * stored vectors.
   *
   * @param settled choices for the call's other decisions
   */
  async decide(call: OpCall, decision: Decision, settled: readonly TunedChoice[]): Promise<Found> {
    const inputs = inputsOf(call)
    const heuristic = heuristicsOf(decision)
    const base = await this.load(inputs, call, decision, heuristic, settled)
    let best = { ...base, choice: heuristic }
    const tried: Tried[] = []
    const seen = new Set([base.launches])
    try {
      for (const changed of alternatives(decision)) {
        this.goOn()
        const choice = { ...best.choice, ...changed }
        const launches = this.launches(call, decision, choice, settled)
        if (seen.has(launches)) continue
        seen.add(launches)
        const candidate = await this.load(inputs, call, decision, choice, settled).catch(refusal)
        if (typeof candidate === 'string') {
          tried.push({ choice, verdict: 'refused', reason: candidate })
          continue
        }
        const verdict = await this.judge(decision, choice, base.trial, best.trial, candidate.trial)
        tried.push({ choice, ...verdict })
        if (verdict.verdict === 'taken') {
          if (best.trial !== base.trial) best.trial.destroy()
          best = { ...candidate, choice }
        } else candidate.trial.destroy()
      }
      const times = await compare(base.trial, best.trial)
      const ratio = best.trial === base.trial ? 1 : times.current / times.candidate
      // Several small steps may have been noise.
      const lost = !isBetter(timesOf(best.trial, times.candidate), timesOf(base.trial, times.current))
      return {
        entry: {
          op: decision.op,
          kernel: decision.kernel,
          shape: decision.shape,
          choice: lost ? heuristic : best.choice,
          ratio: lost ? 1 : round(ratio, 3),
          runMs: round((lost ? times.current : times.candidate) * 1000, 4),
          compileMs: round((lost ? base : best).trial.compileSeconds * 1000, 1),
          heuristicCompileMs: round(base.trial.compileSeconds * 1000, 1),
        },
        heuristic,
        tried,
      }
    } finally {
      if (best.trial !== base.trial) best.trial.destroy()
      base.trial.destroy()
    }
  }

  private async judge(
    { op, kernel }: Decision,
    choice: Choice,
    base: Trial,
    best: Trial,
    candidate: Trial,
  ): Promise<Omit<Tried, 'choice'>> {
    const different = differentOutput(base, candidate)
    if (different) return { verdict: 'refused', reason: different }
    const times = await compare(best, candidate)
    const measured = {
      ratio: round(times.current / times.candidate, 3),
      compileMs: round(candidate.compileSeconds * 1000, 1),
    }
    if (!isBetter(timesOf(candidate, times.candidate), timesOf(best, times.current)))
      return { ...measured, verdict: measured.ratio < LEAST_GAIN ? 'no gain' : 'compiles too long' }
    const wrong = await this.whyNonconforming(op, kernel, choice)
    return wrong ? { ...measured, verdict: 'refused', reason: wrong } : { ...measured, verdict: 'taken' }
  }

  private async whyNonconforming(op: string, kernel: string, choice: Choice): Promise<string | undefined> {
    const key = JSON.stringify([op, kernel, choice])
    if (!this.conformance.has(key))
      this.conformance.set(key, await whyNonconforming(this.device, await vectorsOf(op), kernel, choice))
    return this.conformance.get(key)
  }

  private program(
    call: OpCall,
    { op, kernel, shape }: Decision,
    choice: Choice,
    settled: readonly TunedChoice[],
  ) {
    const others = settled.filter((entry) => entry.op !== op || entry.kernel !== kernel)
    return programOf(call, this.device.targetWith([...others, { op, kernel, shape, choice }]))
  }

  private launches(...of: [OpCall, Decision, Choice, readonly TunedChoice[]]): string {
    return launchesOf(this.program(...of))
  }

  private async load(
    inputs: Readonly<Record<string, Uint8Array>>,
    ...of: [OpCall, Decision, Choice, readonly TunedChoice[]]
  ) {
    const program = this.program(...of)
    const launches = launchesOf(program)
    const texts = program.kernels.map((k) => k.textHash).join()
    const trial = await Trial.load(
      this.device,
      of[0],
      inputs,
      program,
      this.clock,
      this.compileSeconds.get(texts),
    )
    // The driver compiles a text once: what it took then is what it takes.
    this.compileSeconds.set(texts, trial.compileSeconds)
    return { trial, launches }
  }
}

function refusal(error: unknown): string {
  if (!(error instanceof ExactmapError) || error.code === 'device_lost') throw error
  return error.message
}

const timesOf = ({ compileSeconds }: Trial, runSeconds: number): Times => ({ runSeconds, compileSeconds })

/** Names an output that differs in a bit. */
function differentOutput(base: Trial, candidate: Trial): string | undefined {
  for (const [port, bytes] of Object.entries(base.outputs)) {
    const other = candidate.outputs[port]!
    const at = bytes.findIndex((byte, i) => byte !== other[i])
    if (at >= 0) return `${port} differs from the heuristics’ choice from byte ${at} on`
  }
  return undefined
}

const round = (value: number, digits: number): number => Number(value.toFixed(digits))
