import { table } from '../../src/cli/table.ts'
import type { Hello } from './contender.ts'
import type { DriverName } from './drivers.ts'
import { type Goal, judge, OURS, type Row, type Verdict, workNamed } from './goals.ts'
import { median } from './measure.ts'
import { amountOf } from './works.ts'

/** All that one suite gave on one driver: what `--json` prints and bench/results keeps. */
export interface SuiteResult {
  readonly suite: string
  readonly driver: DriverName
  readonly date: string
  readonly commit: string
  readonly command: string
  readonly cpu: string
  readonly node: string
  /** Whether it ran at real-time priority, which keeps other work of the machine out of the figures. */
  readonly realTime: boolean
  readonly engines: Readonly<Record<string, Hello>>
  /** Engines that are not here, and why. */
  readonly missing: Readonly<Record<string, string>>
  readonly runs: readonly {
    readonly loadAverage: number
    readonly rows: Readonly<Record<string, Row>>
  }[]
}

export const describeGoal = (goal: Goal): string => {
  switch (goal.kind) {
    case 'fact':
      return `${goal.name.replaceAll('_', ' ')} <= ${goal.atMost}`
    case 'time':
      return `<= ${goal.atMost} ms`
    case 'work':
      return `>= ${goal.atLeast} x our ${goal.name}`
    case 'engines':
      return `>= ${goal.atLeast} x ${goal.names.join(' and ')}`
    case 'webgpu':
      return `>= ${goal.atLeast} x the best WebGPU engine`
  }
}

export interface GoalSummary {
  readonly work: string
  readonly goal: Goal
  readonly against: string
  /** The verdict's value in every run that had one; reached when the middle one is. */
  readonly values: readonly number[]
  readonly reached: boolean | undefined
}

/** Goals over the runs of a suite. */
export function goalSummaries(result: SuiteResult): GoalSummary[] {
  const hellos = Object.values(result.engines)
  const names = Object.keys(result.runs[0]?.rows ?? {})
  return names.flatMap((name) => {
    const work = workNamed(name)
    if (!work) return []
    const perRun = result.runs.map(({ rows }) =>
      judge(work, result.driver, new Map(Object.entries(rows)), hellos),
    )
    return perRun[0]!.map((first, i): GoalSummary => {
      const verdicts = perRun.map((v) => v[i] as Verdict)
      const values = verdicts.flatMap((v) => (v.value === undefined ? [] : [v.value]))
      const middle = values.length > 0 ? median(values) : undefined
      const { goal } = first
      const reached =
        middle === undefined ? undefined : 'atMost' in goal ? middle <= goal.atMost : middle >= goal.atLeast
      return { work: name, goal, against: first.against, values, reached }
    })
  })
}

/** Best milliseconds of an engine over all runs, or why there are none. */
export function bestOf(result: SuiteResult, work: string, engine: string): number | string {
  const all = result.runs.map(({ rows }) => rows[work]?.[engine])
  const figures = all.flatMap((m) => (m && 'best' in m ? [m.best] : []))
  if (figures.length > 0) return Math.min(...figures)
  const why = all.find((m) => m && 'missing' in m)
  return why && 'missing' in why ? why.missing : (result.missing[engine] ?? 'not measured')
}

const firstLine = (text: string): string => text.split('\n')[0]!.trim()

/** Engines with a figure for any work, ours first. */
export const enginesOf = (result: SuiteResult): string[] =>
  Object.keys(result.engines).filter((engine) =>
    result.runs.some(({ rows }) => Object.values(rows).some((row) => row[engine] && 'best' in row[engine])),
  )

/** What could not be compared, and what peers' figures include: a line per engine and text, with the works it is of. */
export function remarksOf(result: SuiteResult): string[] {
  const works = Object.keys(result.runs[0]?.rows ?? {})
  const notes = new Map<string, string[]>()
  const add = (text: string, work: string): void => {
    notes.set(text, [...(notes.get(text) ?? []), work])
  }
  for (const work of works)
    for (const engine of Object.keys(result.engines)) {
      const measured = result.runs.map(({ rows }) => rows[work]?.[engine]).find((m) => m !== undefined)
      if (measured && 'missing' in measured) add(`${engine}: ${firstLine(measured.missing)}`, work)
      else if (measured?.notes !== undefined && engine !== OURS) add(`${engine}: ${measured.notes}`, work)
    }
  return [
    ...Object.entries(result.missing).map(([engine, why]) => `${engine} is missing: ${firstLine(why)}`),
    ...[...notes].map(([text, of]) => (of.length === works.length ? text : `${text} (${of.join('; ')})`)),
  ]
}

const digits = (value: number): string =>
  value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)

const rates = (work: string, ms: number): string => {
  const amount = workNamed(work) && amountOf(workNamed(work)!)
  return amount ? `${digits(amount.flops / ms / 1e6)} GFLOP/s, ${digits(amount.bytes / ms / 1e6)} GB/s` : ''
}

/** The result as text for a terminal. */
export function report(result: SuiteResult): string {
  const engines = enginesOf(result)
  const works = Object.keys(result.runs[0]?.rows ?? {})
  const lines = [
    '',
    `${result.suite}, ${result.driver}: ${result.engines[OURS]?.device ?? 'exactmap did not start'}`,
    `${result.cpu}; load average ${result.runs.map((r) => r.loadAverage).join(', ')}${result.realTime ? ', at real-time priority' : ''}; commit ${result.commit}`,
    ...engines.map((e) => `  ${e} ${result.engines[e]!.version}: ${result.engines[e]!.device}`),
    '',
    ...table([
      ['best ms', ...engines, 'ours'],
      ...works.map((work) => {
        const ours = bestOf(result, work, OURS)
        return [
          work,
          ...engines.map((e) => {
            const ms = bestOf(result, work, e)
            return typeof ms === 'number' ? digits(ms) : '-'
          }),
          typeof ours === 'number' ? rates(work, ours) : '',
        ]
      }),
    ]),
  ]
  const remarks = remarksOf(result)
  if (remarks.length > 0) lines.push('', ...remarks.map((line) => `  ${line}`))
  const goals = goalSummaries(result)
  if (goals.length > 0)
    lines.push(
      '',
      ...table([
        ['goal', 'value', 'reached', 'against'],
        ...goals.map(({ work, goal, against, values, reached }) => [
          `${work}: ${describeGoal(goal)}`,
          values.length > 0 ? values.map(digits).join(', ') : '-',
          reached === undefined ? 'not measured' : reached ? 'yes' : 'no',
          against,
        ]),
      ]),
    )
  return `${lines.join('\n')}\n`
}
