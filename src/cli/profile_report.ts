import type { DeviceInfo, Roofline } from '../../backends/backend.ts'
import type { HeapUse } from '../verify/host_time.ts'
import type { KernelTime } from '../verify/profile.ts'
import { kernelsOf, partsOf, type StepParts, type StepProfile } from '../verify/step_profile.ts'
import { table } from './table.ts'

/** A step with what follows from it. */
export interface StepReport extends StepProfile {
  readonly parts: StepParts
  /** Of all segments together. */
  readonly kernels: readonly KernelTime[]
  readonly launches: number
}

export interface ProfileReport extends DeviceInfo {
  readonly model: string
  readonly roofline?: Roofline
  readonly steps: readonly StepReport[]
  /** Of decoding, bytes a step. */
  readonly heap?: HeapUse
  /** Of training: all forward passes of a step by themselves, and the step over that. */
  readonly forwardSeconds?: number
  readonly stepOverForward?: number
}

export const stepReport = (step: StepProfile): StepReport => ({
  ...step,
  parts: partsOf(step),
  kernels: kernelsOf(step),
  launches: step.segments.reduce((sum, { runs, launches }) => sum + runs * launches, 0),
})

const ms = (seconds: number): string => (1000 * seconds).toFixed(3)
const us = (seconds: number): string => (1e6 * seconds).toFixed(1)
const giga = (perSecond: number): string =>
  perSecond > 0 && Number.isFinite(perSecond) ? (perSecond / 1e9).toPrecision(3) : '-'
const percent = (part: number, whole: number): string =>
  whole > 0 ? `${((100 * part) / whole).toFixed(0)} %` : '-'
const size = (bytes: number): string =>
  bytes >= 2 ** 20 ? `${bytes / 2 ** 20} MiB` : `${bytes / 2 ** 10} KiB`

export function profileText(report: ProfileReport): string {
  const { device, driver, model, roofline, steps, heap, forwardSeconds, stepOverForward } = report
  return `${[
    `${device}, ${driver}`,
    model,
    '',
    ...(roofline ? rooflineText(roofline) : [`limits of ${report.backend} are not measured`]),
    ...steps.flatMap((step) => ['', ...stepText(step, roofline)]),
    ...(heap
      ? [
          '',
          `JavaScript heap, decode: ${heap.allocated.toFixed(0)} bytes allocated a step, ${heap.retained.toFixed(0)} kept`,
        ]
      : []),
    ...(forwardSeconds && stepOverForward
      ? [
          '',
          `the step takes ${stepOverForward.toFixed(2)} times its forward passes (${ms(forwardSeconds)} ms by themselves)`,
        ]
      : []),
  ].join('\n')}\n`
}

const rooflineText = ({ memory, ...r }: Roofline): string[] => [
  'limits, measured now:',
  ...table([
    ['', 'read GB/s', 'write GB/s', 'copy GB/s'],
    ...memory.map(({ bytes, read, write, copy }) => [`  ${size(bytes)}`, ...[read, write, copy].map(giga)]),
  ]),
  `  f32 arithmetic ${giga(r.flopsPerSecond)} GFLOP/s; an empty launch ${us(r.launchSeconds)} us, an empty submission ${us(r.submitSeconds)} us, reading 4 bytes back ${us(r.readBackSeconds)} us`,
]

function stepText(step: StepReport, roofline: Roofline | undefined): string[] {
  const { name, oneKernel, seconds, steps, host, segments, parts, kernels, launches } = step
  const { loop, inputs, encode, submit } = host
  const least = kernels.reduce((sum, one) => sum + (one.least?.seconds ?? Number.NaN), 0)
  const part = (label: string, value: number, more: string): string[] => [
    `  ${label}`,
    ms(value),
    percent(value, seconds),
    `  ${more}`,
  ]
  return [
    `${name}${oneKernel ? ' as one kernel' : ''}: ${ms(seconds)} ms a step, the fastest round of ${steps} real ${steps === 1 ? 'step' : 'steps'}`,
    ...leftTable([
      part(
        'kernels',
        parts.kernels,
        Number.isFinite(least)
          ? `at their limits ${ms(least)} ms: ${percent(least, parts.kernels)} reached`
          : '',
      ),
      part(
        'launch overhead',
        parts.launching,
        `${us(parts.launching / launches)} us for each of ${launches} ${oneKernel ? 'steps of the kernel, over what they take as launches' : 'launches'}`,
      ),
      part(
        'host',
        parts.host,
        `loop ${us(loop)} us, inputs ${us(inputs)} us, encoding ${us(encode)} us, submission ${us(submit)} us`,
      ),
      part(
        'not explained',
        parts.rest,
        parts.rest < 0 ? 'less than nothing: host and device work at the same time' : '',
      ),
    ]),
    ...(segments.length > 1 ? segmentTable(segments) : []),
    ...table([
      ['op, kernel', 'count', 'total ms', 'share', 'GB/s', 'GFLOP/s', 'launching', 'of its limit'],
      ...kernels.map((k) => [
        k.op === k.kernel ? k.op : `${k.op}, ${k.kernel}`,
        String(k.count),
        ms(k.seconds),
        percent(k.seconds, parts.kernels),
        giga((k.bytesRead + k.bytesWritten) / k.seconds),
        giga(k.flops / k.seconds),
        roofline ? percent(Math.min(k.seconds, k.count * roofline.launchSeconds), k.seconds) : '-',
        k.least ? `${percent(k.least.seconds, k.seconds)}  ${k.least.bound.padEnd(10)}` : '-',
      ]),
    ]),
  ]
}

/** Like `table`, the last column flush left. */
function leftTable(rows: readonly (readonly string[])[]): string[] {
  const widest = Math.max(...rows.map((row) => row.at(-1)!.length))
  return table(rows.map((row) => [...row.slice(0, -1), row.at(-1)!.padEnd(widest)]))
}

const segmentTable = (segments: StepReport['segments']): string[] =>
  table([
    ['  segment', 'runs', 'launches', 'device ms', 'kernels ms'],
    ...segments.map((s) => [
      `  ${s.segment}`,
      String(s.runs),
      String(s.launches),
      ms(s.runs * s.deviceSeconds),
      ms(s.runs * s.kernelSeconds),
    ]),
  ])
