import { join } from 'node:path'
import { Command, Option } from 'commander'
import type { Device } from '../../backends/backend.ts'
import { packageRoot } from '../../backends/package_root.ts'
import { open } from '../open.ts'
import { readCosts } from '../verify/costs.ts'
import { withVariants } from '../verify/run.ts'
import { type CaseResult, filesOf, readVectors, runCase, VERIFY_REPEATS } from '../verify/suite.ts'
import { type Vector, vectorId } from '../verify/vector.ts'
import { type KernelFolder, kernelFolder } from './kernels.ts'
import { backendOption, secondsOf } from './options.ts'
import { type Budgeted, budgetLine, withinBudget } from './verify_budget.ts'
import { libraryChanges } from './watch.ts'

interface Round {
  readonly results: readonly CaseResult[]
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

/** `exactmap verify [op…]`: the stored test vectors on a device of this machine. */
export function verifyCommand(): Command {
  return new Command('verify')
    .description(
      'run the stored test vectors of ops on this machine and compare every element with its budget',
    )
    .argument('[op...]', 'ops to check (default: all)')
    .addOption(backendOption('where they run', 'webgpu'))
    .option('--driver <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--case <name>', 'only cases of this name')
    .addOption(
      new Option(
        '--budget <time>',
        'choose cases that fit into 120s, 2m or so many seconds by their measured costs, every op and storage format first',
      ).argParser(secondsOf),
    )
    .option('--kernels <folder>', 'take the kernels from this folder (default: the package’s)')
    .option('--watch', 'keep running; when a kernel file is saved, run the vectors whose kernels contain it')
    .option('--json', 'print one JSON object per round instead of lines')
    .addHelpText('after', '\nExit code 1 when a case failed. Ctrl-C ends --watch with exit code 0.')
    .action(async (ops: string[], o) => {
      const root = join(packageRoot(), 'test', 'vectors')
      const stored = await readVectors(root, ops, o.case)
      const device = await open(o.backend, o.driver ? { driver: o.driver } : {})
      const vectors = withVariants(stored, device.target)
      const kernels = o.watch || o.kernels ? kernelFolder(device, o.kernels) : undefined
      if (o.kernels) device.useLibrary!(kernels!.read(o.kernels))
      if (!o.json) process.stdout.write(`${device.info.device}, ${device.info.driver}\n`)
      const costs = o.budget === undefined ? {} : readCosts(root)
      const choose = (from: readonly Vector[]): Budgeted | undefined =>
        o.budget === undefined ? undefined : withinBudget(device, from, o.budget, costs)
      const options = { choose, json: o.json }
      const first = await runRound(device, vectors, options)
      if (o.watch && kernels)
        for await (const { touched, changed, ...save } of savedVectors(device, kernels, vectors)) {
          if (!o.json) process.stdout.write(`\n${changed.join(', ')} saved: ${touched.length} vectors\n`)
          await runRound(device, touched, { ...options, ...save })
        }
      else process.exitCode = first.failed > 0 ? 1 : 0
      device.destroy()
    })
}

interface RoundOptions {
  /** What to run of the vectors; undefined for all. */
  readonly choose: (vectors: readonly Vector[]) => Budgeted | undefined
  readonly json: boolean | undefined
  /** performance.now() of the save that asked for this round. */
  readonly savedAt?: number
  /** Tells whether to give up on the rest. */
  readonly isStale?: () => boolean
}

/** Runs vectors in order, printing as it goes. */
async function runRound(
  device: Device,
  vectors: readonly Vector[],
  { choose, json, savedAt, isStale }: RoundOptions,
): Promise<Round> {
  const start = performance.now()
  const results: CaseResult[] = []
  const errors = new Set<string>()
  const budgeted = choose(vectors)
  for (const vector of budgeted?.vectors ?? vectors) {
    const result: CaseResult = isStale?.()
      ? { id: vectorId(vector), state: 'skipped', reason: 'a kernel file was saved again' }
      : await runCase(device, vector, VERIFY_REPEATS)
    results.push(result)
    if (!json) process.stdout.write(line(result, errors))
  }
  const count = (state: CaseResult['state']): number => results.filter((r) => r.state === state).length
  const round = { results, passed: count('passed'), failed: count('failed'), skipped: count('skipped') }
  const since = (time: number): number => Math.round(performance.now() - time) / 1000
  const times = {
    seconds: since(start),
    ...(savedAt === undefined ? {} : { secondsAfterSave: since(savedAt) }),
  }
  process.stdout.write(
    json
      ? `${JSON.stringify({ ...device.info, ...round, results: results.map(plain), ...times, ...(budgeted ? { budget: budgeted.budget } : {}) })}\n`
      : `${round.passed} passed, ${round.failed} failed, ${round.skipped} skipped in ${times.seconds.toFixed(2)} s${savedAt === undefined ? '' : `, ${since(savedAt).toFixed(2)} s after the save`}\n${budgeted ? budgetLine(budgeted.budget) : ''}`,
  )
  return round
}

/** Errors do not survive JSON.stringify. */
const plain = (result: CaseResult): object =>
  'error' in result
    ? { ...result, error: { code: result.error.code, message: result.error.message } }
    : result

/** `errors` holds the messages that were printed before: a file that does not compile fails many cases the same way. */
function line(result: CaseResult, errors: Set<string>): string {
  if (result.state === 'skipped') return `skip  ${result.id}: ${result.reason}\n`
  if ('error' in result) {
    const { code, message } = result.error
    const what = message.replace(/ \[program .*$/, '')
    const known = errors.has(what)
    errors.add(what)
    return `FAIL  ${result.id}: ${known ? 'the same error' : `${code}: ${what}`}\n`
  }
  const { wrong, worst, variants, ms, bytes, flops } = result.verdict
  if (wrong)
    return `FAIL  ${result.id}: ${wrong.port}[${wrong.index}] expected ${wrong.expected}, got ${wrong.got}, ${wrong.error.toFixed(2)} x its budget (${variants.join(', ')})\n`
  const speed = `${ms.toFixed(2)} ms, ${rate(bytes / ms / 1e6)} GB/s, ${rate(flops / ms / 1e6)} GFLOP/s`
  return `pass  ${result.id}: ${(worst?.error ?? 0).toFixed(2)} of the budget, ${variants.join(', ')}, ${speed}\n`
}

const rate = (x: number): string => (x >= 10 ? x.toFixed(0) : x.toPrecision(2))

/** Yields the vectors whose kernels contain a file that was saved, until Ctrl-C; the device has the new kernels then. */
async function* savedVectors(
  device: Device,
  kernels: KernelFolder,
  vectors: readonly Vector[],
): AsyncGenerator<{ touched: Vector[]; changed: string[]; savedAt: number; isStale: () => boolean }> {
  const abort = new AbortController()
  const end = (): void => abort.abort()
  process.once('SIGINT', end)
  process.once('SIGTERM', end)
  const files = new Map(vectors.map((v) => [v, filesOf(device, v)]))
  const ready = (): void => void process.stderr.write(`watching ${kernels.folder}; Ctrl-C ends\n`)
  for await (const { library, changed, savedAt, isStale } of libraryChanges(kernels, abort.signal, ready)) {
    device.useLibrary!(library)
    // A program that could not be linked before may be now.
    for (const [v, known] of files) if (known.length === 0) files.set(v, filesOf(device, v))
    const touched = vectors.filter((v) => files.get(v)!.some((name) => changed.has(name)))
    yield { touched, changed: [...changed], savedAt, isStale }
  }
}
