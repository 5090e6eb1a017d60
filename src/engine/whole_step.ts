import type { LiveRow } from '../ops/contract.ts'
import type { Program } from '../program/program.ts'
import { launchWork, sumOfWork } from '../program/work.ts'
import type { InferenceSpec } from './inference_graph.ts'

/** The segment that may run as one kernel (docs/cuda.md, "A step as one kernel"). */
export const DECODE = 'decode'

/** Bytes a second of memory, from the data sheets of the targets' GPUs. */
const BANDWIDTH: Readonly<Record<string, number>> = { 'cuda-sm_90a': 4.8e12, 'cuda-sm_103a': 8e12 }
/** Seconds between two dependent nodes of a graph: published measurements on H100. */
const NODE_GAP = 1.3e-6
/** Seconds between two dependent steps of one kernel: a counter's way there and back through the second-level cache. */
const STEP_GAP = 0.7e-6
/** The part of a step's time from which on gaps count. */
const MATTERS = 0.1

/** What a decode step is predicted to take, from data sheets and counts; no device has been asked. */
export interface StepPrediction {
  readonly launches: number
  readonly bytes: number
  /** Seconds of memory traffic. */
  readonly memory: number
  /** Seconds between launches: as a graph, and as one kernel, where a part of them passes with fetching weights. */
  readonly graphGaps: number
  readonly kernelGaps: number
  /** Gaps are a part of the step that is worth a kernel of its own. */
  readonly whole: boolean
}

/**
 * Predicts whether one kernel is worth its while for the decode step, half of the context written.
 *
 * @returns undefined for a target that has no such kernels
 */
export function predictDecode(program: Program, spec: InferenceSpec): StepPrediction | undefined {
  const bandwidth = BANDWIDTH[program.target.name]
  const segment = program.segments.find(({ name }) => name === DECODE)
  if (bandwidth === undefined || !segment) return undefined
  const rows = Array.from(
    { length: spec.batch },
    (_, sequence): LiveRow => ({ sequence, position: Math.floor(spec.context / 2) }),
  )
  const launches = segment.steps.filter((step) => step.kind === 'launch')
  const { bytesRead, bytesWritten } = sumOfWork(launches.map((launch) => launchWork(launch, rows)))
  const bytes = bytesRead + bytesWritten
  const [memory, graphGaps] = [bytes / bandwidth, launches.length * NODE_GAP]
  const kernelGaps = launches.length * STEP_GAP
  const whole = graphGaps >= MATTERS * (memory + graphGaps)
  return { launches: launches.length, bytes, memory, graphGaps, kernelGaps, whole }
}

/** A prediction in a line. */
export function predictionText({ launches, memory, graphGaps, kernelGaps, whole }: StepPrediction): string {
  const us = (seconds: number): string => `${Math.round(1e6 * seconds)} us`
  const choice = whole ? 'worth one kernel' : 'a graph is enough'
  return `${launches} launches; predicted, not measured: memory ${us(memory)}, gaps ${us(graphGaps)} as a graph, ${us(kernelGaps)} as one kernel: ${choice}`
}
