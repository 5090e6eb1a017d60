import { join } from 'node:path'
import { Command, Option } from 'commander'
import type { Device } from '../../backends/backend.ts'
import { WebGpuDevice } from '../../backends/webgpu/device.ts'
import { packageRoot, readKernelLibrary } from '../../backends/webgpu/node/library.ts'
import { ExactmapError } from '../errors.ts'
import { deviceNames, open } from '../open.ts'
import { type CaseResult, modulesOf, readVectors, runCase } from '../verify/suite.ts'
import type { Vector } from '../verify/vector.ts'
import { numberIn } from './options.ts'
import { libraryChanges } from './watch.ts'

/** Runs per vector; the fastest counts, so that the first one's warm-up does not. */
const REPEATS = 3

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
    .addOption(new Option('--backend <name>', 'where they run').choices(deviceNames).default('webgpu'))
    .option('--driver <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--case <name>', 'only cases of this name')
    .addOption(
      new Option('--budget <seconds>', 'start no case after this time; the rest is skipped').argParser(
        numberIn(0, 1e6),
      ),
    )
    .option('--kernels <folder>', 'take the WGSL kernels from this folder (default: the package’s)')
    .option('--watch', 'keep running; when a kernel file is saved, run the vectors whose kernels contain it')
    .option('--json', 'print one JSON object per round instead of lines')
    .addHelpText('after', '\nExit code 1 when a case failed. Ctrl-C ends --watch with exit code 0.')
    .action(async (ops: string[], o) => {
      if ((o.watch || o.kernels) && o.backend === 'reference')
        throw new ExactmapError(
          'invalid_argument',
          '--watch and --kernels need WebGPU; the reference has no kernels',
        )
      const vectors = await readVectors(join(packageRoot(), 'test', 'vectors'), ops, o.case)
      const device = await open(o.backend, o.driver ? { driver: o.driver } : {})
      const folder: string = o.kernels ?? join(packageRoot(), 'kernels-wgsl')
      if (o.kernels && device instanceof WebGpuDevice) device.useLibrary(readKernelLibrary(folder))
      if (!o.json) process.stdout.write(`${device.info.device}, ${device.info.driver}\n`)
      const run = (some: readonly Vector[]): Promise<Round> => runRound(device, some, o.budget, o.json)
      const first = await run(vectors)
      if (o.watch && device instanceof WebGpuDevice) await watchKernels(device, folder, vectors, run)
      else process.exitCode = first.failed > 0 ? 1 : 0
      device.destroy()
    })
}

/** Runs vectors in order, printing as it goes. */
async function runRound(
  device: Device,
  vectors: readonly Vector[],
  budget: number | undefined,
  json: boolean,
): Promise<Round> {
  const start = performance.now()
  const results: CaseResult[] = []
  const errors = new Set<string>()
  for (const vector of vectors) {
    const late = budget !== undefined && performance.now() - start > budget * 1000
    const result: CaseResult = late
      ? { id: `${vector.op}/${vector.name}`, state: 'skipped', reason: `the budget of ${budget} s is spent` }
      : await runCase(device, vector, REPEATS)
    results.push(result)
    if (!json) process.stdout.write(line(result, errors))
  }
  const count = (state: CaseResult['state']): number => results.filter((r) => r.state === state).length
  const round = { results, passed: count('passed'), failed: count('failed'), skipped: count('skipped') }
  const seconds = (performance.now() - start) / 1000
  process.stdout.write(
    json
      ? `${JSON.stringify({ ...device.info, ...round, results: results.map(plain), seconds })}\n`
      : `${round.passed} passed, ${round.failed} failed, ${round.skipped} skipped in ${seconds.toFixed(1)} s\n`,
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

/** Runs the vectors of a kernel whenever one of its files is saved, until Ctrl-C. */
async function watchKernels(
  device: WebGpuDevice,
  folder: string,
  vectors: readonly Vector[],
  run: (some: readonly Vector[]) => Promise<Round>,
): Promise<void> {
  const abort = new AbortController()
  const end = (): void => abort.abort()
  process.once('SIGINT', end)
  process.once('SIGTERM', end)
  const modules = new Map(vectors.map((v) => [v, modulesOf(device, v)]))
  process.stderr.write(`watching ${folder}; Ctrl-C ends\n`)
  for await (const { library, changed, savedAt } of libraryChanges(folder, abort.signal)) {
    device.useLibrary(library)
    // Choosing kernels needs no text but linking does: a module that was missing may be there now.
    for (const [v, known] of modules) if (known.length === 0) modules.set(v, modulesOf(device, v))
    const touched = vectors.filter((v) => modules.get(v)!.some((name) => changed.has(name)))
    process.stderr.write(`${[...changed].join(', ')} saved: ${touched.length} vectors\n`)
    await run(touched)
    process.stderr.write(`verdict ${((performance.now() - savedAt) / 1000).toFixed(2)} s after the save\n`)
  }
  process.exitCode = 0
}
