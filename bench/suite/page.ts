import { driverNames } from './drivers.ts'
import { OURS, type Row, workNamed } from './goals.ts'
import { type Measured, median, ratioOf } from './measure.ts'
import { reasonOf } from './reasons.ts'
import { bestOf, describeGoal, enginesOf, goalSummaries, remarksOf, type SuiteResult } from './report.ts'
import { amountOf } from './works.ts'

/** docs/performance.md from the results in bench/results: figures and verdicts; what is written by hand are the reasons of missed goals (reasons.ts). */

const driverTitles: Readonly<Record<SuiteResult['driver'], string>> = {
  lavapipe: 'Mesa lavapipe',
  swiftshader: 'SwiftShader',
}

const significant = (value: number): string =>
  value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toPrecision(2)

/** Middle and, over several runs, least and most. */
function spread(values: readonly number[]): string {
  if (values.length === 0) return '-'
  const middle = significant(median(values))
  if (values.length === 1) return middle
  return `${middle} (${significant(Math.min(...values))} to ${significant(Math.max(...values))})`
}

/** How many times faster ours is than an engine at a work, in every run that has both. */
function ratios(result: SuiteResult, work: string, engine: string): number[] {
  return result.runs.flatMap(({ rows }) => {
    const row: Row | undefined = rows[work]
    const ours: Measured | undefined = row?.[OURS]
    const theirs: Measured | undefined = row?.[engine]
    const value = ours && theirs && ratioOf(ours, theirs)
    return value === undefined ? [] : [value]
  })
}

const works = (result: SuiteResult): string[] => Object.keys(result.runs[0]?.rows ?? {})
const others = (result: SuiteResult): string[] => enginesOf(result).filter((e) => e !== OURS)

const row = (...cells: string[]): string => `| ${cells.join(' | ')} |`
const head = (...cells: string[]): string[] => [row(...cells), row(...cells.map(() => '---'))]

function figures(result: SuiteResult): string[] {
  const engines = others(result)
  return [
    ...head('work', 'exactmap, best ms', 'of it', ...engines),
    ...works(result).map((work) => {
      const ours = bestOf(result, work, OURS)
      const amount = workNamed(work) && amountOf(workNamed(work)!)
      const rate =
        typeof ours === 'number' && amount
          ? `${significant(amount.flops / ours / 1e6)} GFLOP/s, ${significant(amount.bytes / ours / 1e6)} GB/s`
          : ''
      return row(
        work,
        typeof ours === 'number' ? significant(ours) : '-',
        rate,
        ...engines.map((engine) => spread(ratios(result, work, engine))),
      )
    }),
  ]
}

function goals(results: readonly SuiteResult[]): string[] {
  return [
    ...head('work', 'driver', 'goal', 'measured', 'against', 'reached'),
    ...results.flatMap((result) =>
      goalSummaries(result).map(({ work, goal, against, values, reached }) =>
        row(
          work,
          driverTitles[result.driver],
          describeGoal(goal),
          spread(values),
          against,
          reached === undefined ? 'not measured' : reached ? 'yes' : '**no**',
        ),
      ),
    ),
  ]
}

/** The goals that are not reached, each reason once. */
function misses(results: readonly SuiteResult[]): string[] {
  const reasons = new Map<string, string[]>()
  for (const result of results)
    for (const { work, goal, reached } of goalSummaries(result)) {
      if (reached !== false) continue
      const why = reasonOf(workNamed(work)!, goal, result.driver) ?? 'No reason is known yet.'
      reasons.set(why, [...(reasons.get(why) ?? []), `${work} (${driverTitles[result.driver]})`])
    }
  if (reasons.size === 0) return ['All are.']
  return [...reasons].map(([why, works]) => `- **${works.join('; ')}**: ${why}`)
}

/** Works at which an engine is faster than ours, with how much. */
function slower(results: readonly SuiteResult[]): string[] {
  const lines = results.flatMap((result) =>
    works(result).flatMap((work) =>
      others(result).flatMap((engine) => {
        const all = ratios(result, work, engine)
        if (all.length === 0 || median(all) >= 1) return []
        const { kind } = result.engines[engine]!
        return [
          row(work, driverTitles[result.driver], `${engine} (${kind})`, `${significant(1 / median(all))} x`),
        ]
      }),
    ),
  )
  if (lines.length === 0) return ['No engine that was measured is faster at any of the works.']
  return [...head('work', 'exactmap on', 'faster', 'by'), ...lines]
}

function section(result: SuiteResult): string[] {
  const { suite, driver, engines, cpu, node, commit, date, command, runs, realTime } = result
  const versions = Object.entries(engines).map(([name, { version }]) => `${name} ${version}`)
  return [
    `### ${suite}, ${driverTitles[driver]}`,
    '',
    ...figures(result),
    '',
    `${engines[OURS]?.device ?? ''}; ${cpu}, Node ${node}; load average ${runs.map((r) => r.loadAverage).join(', ')}${realTime ? ', but at real-time priority' : ''}.`,
    `${versions.join(', ')}. Commit ${commit}, ${date}: \`${command}\``,
    '',
    ...remarksOf(result).map((line) => `- ${line}`),
    '',
  ]
}

/** The page as Markdown. Suites in the order given, each with its drivers. */
export function performancePage(results: readonly SuiteResult[]): string {
  const sorted = [...results].sort((a, b) => driverNames.indexOf(a.driver) - driverNames.indexOf(b.driver))
  return `${[
    '# Performance',
    '',
    'Made from `bench/results` by `npx vitest run test/plan/performance.test.ts -u`. Every figure is measured on a machine',
    'without a GPU: WebGPU runs on a software driver, as on most CI machines. No figure of a real GPU has been measured yet.',
    '',
    'A ratio is how many times faster exactmap is than the engine that heads the column. Every engine runs in a process of its',
    'own; in each round all of them run once, one after the other, on results that were checked, and a ratio is the middle one',
    'of the ratios within rounds; over several runs, each with processes started anew: the middle (least to most). Above 1',
    'exactmap is faster.',
    '',
    '## Goals',
    '',
    ...goals(sorted),
    '',
    '## Goals not reached, and why',
    '',
    ...misses(sorted),
    '',
    '## Where others are faster',
    '',
    ...slower(sorted),
    '',
    '## All figures',
    '',
    ...sorted.flatMap(section),
  ]
    .join('\n')
    .trimEnd()}\n`
}
