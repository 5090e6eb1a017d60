import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Command, Option } from 'commander'
import { packageRoot } from '../../backends/package_root.ts'
import { shapeDistance } from '../../backends/tuned_shape.ts'
import type { WebGpuDevice } from '../../backends/webgpu/device.ts'
import { kernelRules } from '../../backends/webgpu/kernels/index.ts'
import { openNodeWebGpu } from '../../backends/webgpu/node/open.ts'
import { readTuning, userTuningPath } from '../../backends/webgpu/node/tuning.ts'
import { encodeTuning, keyOf, type TuningEntry, type TuningFile } from '../../backends/webgpu/tuning.ts'
import { check } from '../errors.ts'
import { parseJson } from '../formats/json.ts'
import { writeFileAtomic } from '../formats/node_file.ts'
import type { OpCall } from '../ops/contract.ts'
import { type OpName, opContract } from '../ops/index.ts'
import { alternatives, type Found, Search } from '../tune/search.ts'
import { processorClock, wallClock } from '../tune/trial.ts'
import { generalWork, modelWork } from '../tune/work.ts'
import { version } from '../version.ts'
import { duration, ProgressLine, secondsOf, weightsOption } from './options.ts'
import { foundText, plan, planText, type Task } from './tune_report.ts'

/** Shapes nearer than this (log2, see `shapeDistance`) share what is found for one of them. */
const NEAR = 1

/** `exactmap tune`: measures the kernels' free parameters on this machine's adapter. */
export function tuneCommand(): Command {
  return new Command('tune')
    .description(
      'find the fastest kernel parameters for this adapter; programs compiled afterwards take them',
    )
    .argument('[op...]', 'ops to tune (default: all that have parameters)')
    .addOption(
      new Option('--time <time>', 'stop after 120s, 2m or so many seconds').default(120).argParser(secondsOf),
    )
    .option(
      '--model <folder>',
      'exactly the shapes of this model’s inference programs (default: shapes for all models)',
    )
    .addOption(weightsOption())
    .option('--driver <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--out <file>', 'where to write (default: the file that devices of this adapter look for)')
    .option('--fresh', 'forget what the file already holds')
    .option('--dry-run', 'print what would be tried and stop')
    .option('--json', 'print the result as JSON')
    .addHelpText(
      'after',
      '\nWhat is decided is kept when it is stopped: run it again to go on.\nEXACTMAP_TUNING=<file> takes another file, EXACTMAP_TUNING=off none (docs/tuning.md).',
    )
    .action(async (ops: string[], o) => {
      for (const op of ops) requireParameters(op)
      const caches = mkdtempSync(join(tmpdir(), 'exactmap-tune-'))
      try {
        // What a kernel takes to compile is part of the choice: Mesa must not have it from before.
        process.env.MESA_SHADER_CACHE_DIR = caches
        const device = await openNodeWebGpu(o.driver ? { driver: o.driver } : {})
        await tune(device, ops, o)
        device.destroy()
      } finally {
        rmSync(caches, { recursive: true, force: true })
      }
    })
}

/** @throws ExactmapError `not_found` for an unknown op, `invalid_argument` for one without parameters */
function requireParameters(op: string): void {
  const { parameters } = kernelRules[opContract(op).name as OpName]
  const tunable = Object.entries(kernelRules).flatMap(([name, rule]) => (rule.parameters ? [name] : []))
  check(
    parameters,
    'invalid_argument',
    () => `op '${op}' has no parameters; those that have: ${tunable.join(', ')}`,
  )
}

interface TuneOptions {
  readonly time: number
  readonly model?: string
  readonly weights: 'f32'
  readonly out?: string
  readonly fresh?: boolean
  readonly dryRun?: boolean
  readonly json?: boolean
}

async function tune(device: WebGpuDevice, ops: readonly string[], o: TuneOptions): Promise<void> {
  const path = o.out ?? userTuningPath(device.signature)
  const before = o.fresh || !existsSync(path) ? [] : entriesFor(device, path)
  const calls = (
    o.model === undefined ? await general(device) : await ofModel(device, o.model, o.weights)
  ).filter(({ op }) => ops.length === 0 || ops.includes(op))
  const near = o.model === undefined ? NEAR : 0
  if (o.dryRun) {
    process.stdout.write(
      o.json
        ? `${JSON.stringify(tasksOf(device, calls, before, near).map(plan))}\n`
        : planText(tasksOf(device, calls, before, near), path),
    )
    return
  }
  const entries = [...before]
  const found: Found[] = []
  const progress = new ProgressLine()
  const end = performance.now() + o.time * 1000
  const software = ['lavapipe', 'swiftshader'].includes(device.signature.driver)
  const search = new Search(device, software ? processorClock : wallClock, () => {
    if (performance.now() > end) throw new OutOfTime()
  })
  const interrupted = interruption()
  let left = tasksOf(device, calls, entries, near)
  try {
    while (left.length > 0 && performance.now() < end && !interrupted()) {
      const { call, decision } = left[0]!
      progress.show(
        `${keyOf(decision)}: ${left.length} to go, ${duration((end - performance.now()) / 1000)} left`,
      )
      const one = await search.decide(call, decision, entries)
      found.push(one)
      entries.push(one.entry)
      await save(path, device, entries)
      left = tasksOf(device, calls, entries, near)
    }
  } catch (error) {
    if (!(error instanceof OutOfTime)) throw error
  }
  progress.clear()
  process.stdout.write(
    o.json
      ? `${JSON.stringify({ ...device.info, file: path, found, left: left.map(plan) })}\n`
      : foundText(device.info, path, found, left),
  )
}

class OutOfTime extends Error {}

/** Whether Ctrl-C was pressed: the decision under way is the last. A second one ends the process. */
function interruption(): () => boolean {
  let pressed = false
  process.once('SIGINT', () => {
    pressed = true
  })
  return () => pressed
}

/** Decisions of the calls that are not made yet: with no entry for the kernel at this shape or near it. */
function tasksOf(
  device: WebGpuDevice,
  calls: readonly OpCall[],
  entries: readonly TuningEntry[],
  near: number,
): Task[] {
  const known: Pick<TuningEntry, 'op' | 'kernel' | 'shape'>[] = [...entries]
  const tasks: Task[] = []
  for (const call of calls)
    for (const decision of device.target.decisions(call)) {
      const { op, kernel, shape } = decision
      if (alternatives(decision).length === 0) continue
      if (known.some((e) => e.op === op && e.kernel === kernel && shapeDistance(e.shape, shape) <= near))
        continue
      known.push(decision)
      tasks.push({ call, decision })
    }
  return tasks
}

/** @throws ExactmapError `conflict` for a file of another adapter */
function entriesFor(device: WebGpuDevice, path: string): readonly TuningEntry[] {
  const { signature, entries } = readTuning(path)
  check(
    JSON.stringify(signature) === JSON.stringify(device.signature),
    'conflict',
    `${path} was measured on ${signature.driver}, ${signature.description}; this adapter is ${device.signature.driver}, ${device.signature.description}. Write to another file with --out, or forget its entries with --fresh`,
  )
  return entries
}

async function save(path: string, device: WebGpuDevice, entries: readonly TuningEntry[]): Promise<void> {
  const file: TuningFile = {
    format: 'exactmap-tuning',
    version: 1,
    signature: device.signature,
    date: new Date().toISOString().slice(0, 10),
    commit: commit(),
    command: commandLine(process.argv.slice(2)),
    loadAverage: Math.round(loadavg()[0]! * 10) / 10,
    entries: [...entries],
  }
  mkdirSync(dirname(path), { recursive: true })
  await writeFileAtomic(path, [new TextEncoder().encode(encodeTuning(file))])
}

/** The command without the file it writes, which is no part of how it was measured. */
function commandLine(args: readonly string[]): string {
  const at = args.indexOf('--out')
  return ['exactmap', ...(at < 0 ? args : args.toSpliced(at, 2))].join(' ')
}

/** The commit that is checked out; of an installed package its version. */
function commit(): string {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], {
      cwd: packageRoot(),
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim()
  } catch {
    return version
  }
}

const bundled = (file: string): Buffer => readFileSync(join(packageRoot(), 'assets', 'shakespeare', file))

async function general(device: WebGpuDevice): Promise<OpCall[]> {
  const config = parseJson(bundled('config.json'), 'config.json') as object
  return generalWork(device.target, { config, train: bundled('train.yaml').toString() })
}

async function ofModel(
  device: WebGpuDevice,
  folder: string,
  weights: TuneOptions['weights'],
): Promise<OpCall[]> {
  const path = join(folder, 'config.json')
  check(existsSync(path), 'not_found', `expected a model folder with a config.json, ${path} is not there`)
  return modelWork(device.target, parseJson(readFileSync(path), path) as object, weights)
}
