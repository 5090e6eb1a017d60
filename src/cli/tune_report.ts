import type { DeviceInfo } from '../../backends/backend.ts'
import type { Choice, Decision } from '../../backends/webgpu/kernels/parameter.ts'
import type { OpCall } from '../ops/contract.ts'
import { hashOf } from '../program/hash.ts'
import { alternatives, type Found, heuristicsOf } from '../tune/search.ts'
import { table } from './table.ts'

/** A decision to make and a call it occurs in. */
export interface Task {
  readonly call: OpCall
  readonly decision: Decision
}

/** What would be tried for a task. */
export const plan = ({ decision }: Task) => ({
  op: decision.op,
  kernel: decision.kernel,
  shape: decision.shape,
  heuristic: heuristicsOf(decision),
  alternatives: alternatives(decision),
})

const choiceText = (choice: Choice): string =>
  Object.entries(choice)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ')

const shapeText = (shape: Decision['shape']): string =>
  Object.entries(shape)
    .map(([name, size]) => `${name} ${size}`)
    .join(', ')

const label = ({ op, kernel, shape }: Pick<Decision, 'op' | 'kernel' | 'shape'>): string =>
  `${kernel.startsWith(op) ? kernel : `${op}, ${kernel}`}, ${shapeText(shape)}`

export function planText(tasks: readonly Task[], path: string): string {
  const rows = tasks.map(({ decision }) => [
    label(decision),
    choiceText(heuristicsOf(decision)),
    alternatives(decision).map(choiceText).join('; '),
  ])
  const lines = table([['kernel, shape', 'heuristic', 'would be tried'], ...rows])
  return `${lines.join('\n')}\n${tasks.length} decisions, to be written to ${path}\n`
}

/** The decisions that were made, each followed by everything that was tried: what came of it and why. */
export function foundText(
  info: DeviceInfo,
  path: string,
  found: readonly Found[],
  left: readonly Task[],
): string {
  const head = ['kernel, shape', 'choice', 'faster', 'compile ms', 'verdict']
  const rows = found.flatMap(({ entry, heuristic, tried }) => [
    [
      label(entry),
      choiceText(entry.choice),
      `${entry.ratio.toFixed(2)} x`,
      entry.compileMs.toFixed(0),
      `${same(entry.choice, heuristic) ? 'the heuristics stay' : `instead of ${choiceText(heuristic)}`}, ${entry.runMs.toPrecision(3)} ms`,
    ],
    ...tried.map((t) => [
      '  against the best before it',
      choiceText(t.choice),
      t.ratio === undefined ? '-' : `${t.ratio.toFixed(2)} x`,
      t.compileMs === undefined ? '-' : t.compileMs.toFixed(0),
      t.reason ? `${t.verdict}: ${t.reason}` : t.verdict,
    ]),
  ])
  const changed = found.filter(({ entry, heuristic }) => !same(entry.choice, heuristic)).length
  return [
    `${info.device}, ${info.driver}`,
    ...(found.length > 0 ? table([head, ...rows]) : []),
    `${found.length} decided, ${changed} of them other than the heuristics: ${path}`,
    ...(left.length > 0 ? [`${left.length} left; run it again to go on`] : []),
    '',
  ].join('\n')
}

const same = (a: Choice, b: Choice): boolean => hashOf(a) === hashOf(b)
