import type { DeviceInfo } from '../../backends/backend.ts'
import type { Choice, Decision } from '../../backends/webgpu/kernels/parameter.ts'
import type { OpCall } from '../ops/contract.ts'
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

/** A line per decision that was made: what was chosen, what it gains, and what became of everything that was tried. */
export function foundText(
  info: DeviceInfo,
  path: string,
  found: readonly Found[],
  left: readonly Task[],
): string {
  const rows = found.map(({ entry, heuristic, tried }) => [
    label(entry),
    choiceText(heuristic),
    keyOfChoice(entry.choice) === keyOfChoice(heuristic) ? 'the same' : choiceText(entry.choice),
    `${entry.ratio.toFixed(2)} x`,
    entry.runMs.toPrecision(3),
    `${entry.heuristicCompileMs.toFixed(0)} -> ${entry.compileMs.toFixed(0)}`,
    tried
      .map(
        (t) =>
          `${choiceText(t.choice)}: ${t.ratio ? `${t.ratio.toFixed(2)} x, ` : ''}${t.verdict}${t.reason ? ` (${t.reason})` : ''}`,
      )
      .join('; '),
  ])
  const head = [
    'kernel, shape',
    'heuristic',
    'chosen',
    'faster',
    'run ms',
    'compile ms',
    'tried, each against the best before it',
  ]
  const gained = found.filter(({ entry }) => entry.ratio > 1).length
  return [
    `${info.device}, ${info.driver}`,
    ...(found.length > 0 ? table([head, ...rows]) : []),
    `${found.length} decided, ${gained} of them other than the heuristics: ${path}`,
    ...(left.length > 0 ? [`${left.length} left; run it again to go on`] : []),
    '',
  ].join('\n')
}

const keyOfChoice = (choice: Choice): string => JSON.stringify(Object.entries(choice).sort())
