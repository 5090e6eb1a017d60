// `npm run bench`: exactmap beside other engines on the same driver, in one run in which all take turns.
import { readFileSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'
import { join } from 'node:path'
import { Command, Option } from 'commander'
import { packageRoot } from '../../backends/package_root.ts'
import { numberIn, ProgressLine } from '../../src/cli/options.ts'
import { contenders } from '../contenders/index.ts'
import { llama100m } from '../models.ts'
import { commit, writeResult } from '../result.ts'
import { Child } from './child.ts'
import type { Hello } from './contender.ts'
import { type DriverName, driverEnvironment, driverNames } from './drivers.ts'
import type { Row } from './goals.ts'
import { measure } from './measure.ts'
import { report, type SuiteResult } from './report.ts'
import { nameOf, suites, type Work } from './works.ts'

type SuiteName = keyof typeof suites

const worker = join(packageRoot(), 'dist', 'bench', 'worker.js')
const progress = new ProgressLine()

/** Whether this process has a real-time policy (Linux: `chrt -r 1 npm run bench`); its workers inherit it. */
function isRealTime(): boolean {
  if (process.platform !== 'linux') return false
  // Field 41 of proc(5)'s stat; the name, in brackets, may have spaces.
  const policy = readFileSync('/proc/self/stat', 'utf8').split(')').at(-1)!.trim().split(' ')[38]
  return policy === '1' || policy === '2'
}

/** One suite on one driver, `runs` times over with processes started anew. */
async function runSuite(
  suite: SuiteName,
  driver: DriverName,
  only: string,
  names: readonly string[],
  rounds: number,
  runs: number,
  onRun: (result: SuiteResult) => void,
): Promise<SuiteResult> {
  const works = (suites[suite] as readonly Work[]).filter((work) => nameOf(work).includes(only))
  const environment = driverEnvironment(driver)
  if (typeof environment === 'string') throw new Error(environment)
  const engines: Record<string, Hello> = {}
  const missing = Object.fromEntries(
    Object.keys(contenders)
      .filter((name) => !names.includes(name))
      .map((name) => [name, 'left out by --engines']),
  )
  const measured: SuiteResult['runs'][number][] = []
  const result = (): SuiteResult => ({
    suite,
    driver,
    date: new Date().toISOString().slice(0, 10),
    commit,
    command: `npm run bench -- ${process.argv.slice(2).join(' ')}`,
    cpu: `${cpus().length} x ${cpus()[0]!.model}`,
    node: process.version,
    realTime: isRealTime(),
    engines,
    missing,
    runs: measured,
  })
  if (works.some(({ kind }) => kind === 'decode')) await llama100m((what) => progress.show(what))
  for (let run = 0; run < runs; run++) {
    const children = new Map<string, Child>()
    const rows: Record<string, Row> = {}
    for (const work of works) {
      // One that crashed at the work before is started anew.
      for (const name of names.filter((n) => !(n in missing) && !children.get(n)?.alive)) {
        progress.show(`${suite}, ${driver}: starting ${name}`)
        const started = await Child.start(name, [process.execPath, worker, name, driver], environment)
        if ('missing' in started) {
          missing[name] = started.missing
          children.delete(name)
        } else {
          engines[name] = started.hello
          children.set(name, started.child)
        }
      }
      const name = nameOf(work)
      const where = `${suite}, ${driver}, run ${run + 1} of ${runs}: ${name}`
      const results = await measure(work, [...children.values()], rounds, (what) =>
        progress.show(`${where}: ${what}`),
      )
      rows[name] = Object.fromEntries(results)
    }
    for (const child of children.values()) child.stop()
    measured.push({ loadAverage: Number(loadavg()[0]!.toFixed(1)), rows })
    onRun(result())
  }
  progress.clear()
  return result()
}

interface Options {
  readonly driver: DriverName | 'all'
  readonly only: string
  readonly engines: string
  readonly rounds: number
  readonly runs: number
  readonly json?: boolean
  readonly save?: boolean
}

await new Command('npm run bench --')
  .description('measure exactmap beside other engines on the same driver; all of them take turns in one run')
  .argument('[suite...]', `any of ${Object.keys(suites).join(', ')}; none: all of them`)
  .addOption(
    new Option('--driver <name>', 'which software driver').choices([...driverNames, 'all']).default('all'),
  )
  .option('--only <text>', 'only works whose name has this text in it', '')
  .option('--engines <names>', 'only these engines, comma between', Object.keys(contenders).join(','))
  .addOption(
    new Option('--rounds <n>', 'turns of every engine; fewer, but at least 3, where a turn takes long')
      .default(9)
      .argParser(numberIn(1, 1000, true)),
  )
  .addOption(
    new Option('--runs <n>', 'times everything is started anew').default(1).argParser(numberIn(1, 100, true)),
  )
  .option('--json', 'print everything that was measured as JSON')
  .option('--save', 'write it to bench/results, where docs/performance.md is made from')
  .addHelpText(
    'after',
    `
Other engines live in bench/ only: npm install --no-save --prefix bench. One that is missing is named.
A figure is compared within its round; where the load average exceeds the cores, trust ratios only, or run it as
chrt -r 1 npm run bench: real-time priority keeps the machine's other work out.`,
  )
  .action(async (asked: string[], o: Options) => {
    const unknown = asked.find((name) => !(name in suites))
    if (unknown !== undefined)
      throw new Error(`no suite is named '${unknown}'; there are ${Object.keys(suites).join(', ')}`)
    const names = o.engines.split(',')
    const stranger = names.find((name) => !(name in contenders))
    if (stranger !== undefined)
      throw new Error(`no engine is named '${stranger}'; there are ${Object.keys(contenders).join(', ')}`)
    const all: SuiteResult[] = []
    for (const driver of o.driver === 'all' ? driverNames : [o.driver])
      for (const suite of (asked.length > 0 ? asked : Object.keys(suites)) as SuiteName[]) {
        // Kept after every run: what was measured is not lost with a later one.
        const keep = (result: SuiteResult): void => {
          if (o.save) writeResult(`${suite}_${driver}`, result)
        }
        const result = await runSuite(suite, driver, o.only, names, o.rounds, o.runs, keep)
        all.push(result)
        if (!o.json) process.stdout.write(report(result))
      }
    if (o.json) process.stdout.write(`${JSON.stringify(all, undefined, 2)}\n`)
  })
  .parseAsync()
  .catch((error: Error) => {
    progress.clear()
    process.stderr.write(`${error.message}\n`)
    process.exitCode = 1
  })
