import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Command, Option } from 'commander'
import type { Target } from '../../backends/backend.ts'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { walkersOf } from '../../backends/cuda/walker.ts'
import { referenceTarget } from '../../backends/reference/device.ts'
import { readKernelLibrary } from '../../backends/webgpu/node/library.ts'
import { storedTarget, storedTargetNames } from '../../backends/webgpu/node/stored_targets.ts'
import { inferenceSpec } from '../engine/defaults.ts'
import { type InferenceSpec, inferenceGraph } from '../engine/inference_graph.ts'
import { DECODE, predictDecode, predictionText } from '../engine/whole_step.ts'
import { check, ExactmapError } from '../errors.ts'
import { parseJson } from '../formats/json.ts'
import { refuseIo, writeFileAtomic } from '../formats/node_file.ts'
import { familyOf } from '../models/index.ts'
import { compile, programHash } from '../program/compile.ts'
import { lifetimePicture, lifetimeSvg, type MemoryReport, memoryReport } from '../program/memory_report.ts'
import { printProgram } from '../program/print.ts'
import type { Program, Segment } from '../program/program.ts'
import { encodeProgram } from '../program/serialise.ts'
import { readPlan } from './cluster.ts'
import { inspectTraining, trainingText } from './inspect_training.ts'
import { activationsOption, contextOption, grouped, kvOption, numberIn, weightsOption } from './options.ts'
import { table } from './table.ts'

/** Names `--target` accepts. */
const targetNames = [...storedTargetNames, ...Object.keys(cudaTraits), 'reference']

function namedTarget(name: string): Target {
  if (name === 'reference') return referenceTarget
  if (cudaTraits[name]) return cudaTarget(cudaTraits[name], readCudaSources())
  return storedTarget(name, readKernelLibrary())
}

/** Launches of a segment by op: in one layer (the mean over layers) and outside of layers. */
interface LaunchReport {
  readonly segment: string
  readonly launches: number
  readonly flops: number
  readonly perLayer: Readonly<Record<string, number>>
  readonly outside: Readonly<Record<string, number>>
}

/** What joining ops saves, against one launch list per op. */
interface FusionReport {
  /** Joined ops by what they became, over all segments: e.g. `matmul + silu`. */
  readonly joined: Readonly<Record<string, number>>
  readonly launchesBefore: number
  readonly launches: number
  readonly activationsBefore: number
  readonly activations: number
}

interface InspectReport {
  readonly model: string
  readonly target: string
  readonly spec: object
  readonly hash: string
  readonly kernels: number
  readonly memory: MemoryReport
  readonly segments: readonly LaunchReport[]
  readonly fusion: FusionReport
  /** Whether decode steps may be one kernel, on targets that have such kernels. */
  readonly wholeStep?: string
}

/** `exactmap inspect`: what a model becomes on a target, exactly, without a device or weights. */
export function inspectCommand(): Command {
  return new Command('inspect')
    .description('compile a model without a device: exact memory, launches, lifetimes')
    .argument(
      '<model>',
      'a model folder or a config.json (weights are not read), or a training file (*.yaml)',
    )
    .addOption(
      new Option('--target <name>', 'what to compile for').choices(targetNames).default('webgpu-lavapipe'),
    )
    .addOption(contextOption())
    .addOption(
      new Option('-b, --batch <n>', 'sequences that decode together')
        .default(1)
        .argParser(numberIn(1, 4096, true)),
    )
    .addOption(weightsOption())
    .addOption(activationsOption())
    .addOption(kvOption())
    .option('--plan <file>', 'with a training file: plan of a run on several ranks (YAML)')
    .option('--cluster <cluster>', "cluster file or shipped name (default: the plan's cluster)")
    .option('--text <file>', 'write the whole program as text')
    .option('--program <file>', 'write the program itself')
    .option('--svg <file>', 'write the picture of activation lifetimes as SVG')
    .option('--json', 'print the report as JSON')
    .action(async (path: string, o) => {
      if (/\.ya?ml$/.test(path)) {
        const plan = o.plan === undefined ? undefined : await readPlan(o.plan, o.cluster)
        const report = await inspectTraining(path, namedTarget(o.target), plan)
        process.stdout.write(`${o.json ? JSON.stringify(report, null, 2) : trainingText(report)}\n`)
        return
      }
      check(o.plan === undefined, 'invalid_argument', '--plan is for a training file (*.yaml)')
      const config = await readConfig(path)
      const family = familyOf(config)
      const shape = family.parse(config)
      const spec = inferenceSpec(shape, {
        ...(o.context === undefined ? {} : { context: o.context }),
        batch: o.batch,
        weights: o.weights,
        activations: o.activations,
        kv: o.kv,
      })
      const target = namedTarget(o.target)
      const graph = inferenceGraph(`${family.name}-inference`, family, shape, spec)
      const program = compile(graph, target)
      const report: InspectReport = {
        model: `${family.name}, ${shape.layers} layers, vocabulary ${shape.vocab}`,
        target: target.name,
        spec,
        hash: programHash(program),
        kernels: program.kernels.length,
        memory: memoryReport(program),
        segments: program.segments.map((s) => launchReport(s, shape.layers)),
        fusion: fusionReport(program, compile(graph, target, { portable: true })),
        ...wholeStep(program, spec, o.target),
      }
      const write = (file: string, text: string | Uint8Array): Promise<void> =>
        writeFileAtomic(file, [typeof text === 'string' ? new TextEncoder().encode(text) : text])
      if (o.text) await write(o.text, printProgram(program))
      if (o.program) await write(o.program, encodeProgram(program))
      if (o.svg) await write(o.svg, lifetimeSvg(program))
      process.stdout.write(
        o.json ? `${JSON.stringify(report, null, 2)}\n` : `${text(report)}\n${lifetimePicture(program)}`,
      )
    })
}

/** What decode steps as one kernel are predicted to be, or which launch is in the way. */
function wholeStep(program: Program, spec: InferenceSpec, target: string): Pick<InspectReport, 'wholeStep'> {
  const prediction = predictDecode(program, spec)
  const traits = cudaTraits[target]
  if (!prediction || !traits) return {}
  try {
    walkersOf(program, [DECODE], cudaTarget(traits, readCudaSources()))
    return { wholeStep: predictionText(prediction) }
  } catch (error) {
    if (error instanceof ExactmapError && error.code === 'unsupported') return { wholeStep: error.message }
    throw error
  }
}

async function readConfig(path: string): Promise<unknown> {
  const { isDirectory } = await stat(path).then(
    (s) => ({ isDirectory: s.isDirectory() }),
    (cause) => refuseIo(path, 'reading', cause),
  )
  const file = isDirectory ? join(path, 'config.json') : path
  const bytes = await readFile(file).catch((cause) => refuseIo(file, 'reading', cause))
  return parseJson(bytes, file)
}

function launchReport(segment: Segment, layers: number): LaunchReport {
  const perLayer: Record<string, number> = {}
  const outside: Record<string, number> = {}
  let flops = 0
  for (const step of segment.steps) {
    if (step.kind !== 'launch') continue
    flops += step.flops
    if (/^layer\.\d+\//.test(step.name)) perLayer[step.call.op] = (perLayer[step.call.op] ?? 0) + 1 / layers
    else outside[step.call.op] = (outside[step.call.op] ?? 0) + 1
  }
  for (const op of Object.keys(perLayer)) perLayer[op] = Math.round(1000 * perLayer[op]!) / 1000
  return { segment: segment.name, launches: segment.steps.length, flops, perLayer, outside }
}

const launchCount = (program: Program): number => program.segments.reduce((sum, s) => sum + s.steps.length, 0)
const activationBytes = (program: Program): number =>
  program.arenas.find((a) => a.kind === 'activations')?.bytes ?? 0

function fusionReport(program: Program, portable: Program): FusionReport {
  const joined: Record<string, number> = {}
  for (const step of program.segments.flatMap((s) => s.steps)) {
    if (step.kind !== 'launch' || step.call.op !== 'matmul' || step.part[0] > 0) continue
    const { activation } = step.call.attrs
    const parts = [
      'matmul',
      ...(activation === 'none' ? [] : [activation]),
      ...('residual' in step.call.inputs ? ['add'] : []),
    ]
    if (parts.length > 1) joined[parts.join(' + ')] = (joined[parts.join(' + ')] ?? 0) + 1
  }
  return {
    joined,
    launchesBefore: launchCount(portable),
    launches: launchCount(program),
    activationsBefore: activationBytes(portable),
    activations: activationBytes(program),
  }
}

const percent = (bytes: number, least: number): string =>
  least > 0 ? `${((100 * (bytes - least)) / least).toFixed(1)} %` : '-'

const counts = (ops: Readonly<Record<string, number>>): string =>
  Object.entries(ops)
    .map(([op, n]) => `${op}${n === 1 ? '' : ` x ${n}`}`)
    .join(', ') || '-'

function text(report: InspectReport): string {
  const { model, target, spec, hash, kernels, memory, segments, fusion, wholeStep } = report
  const { arenas, peak, lowerBound } = memory
  return [
    `model    ${model}`,
    `target   ${target}`,
    `spec     ${Object.entries(spec)
      .map(([k, v]) => `${k} ${v}`)
      .join(', ')}`,
    `program  ${hash}, ${kernels} kernels`,
    '',
    ...table([
      ['arena', 'bytes', 'lower bound', 'overhead', 'tensors', 'buffers'],
      ...arenas.map((a) => [
        a.kind,
        grouped(a.bytes),
        grouped(a.lowerBound),
        percent(a.bytes, a.lowerBound),
        String(a.tensors),
        String(a.buffers),
      ]),
      ['peak', grouped(peak), grouped(lowerBound), percent(peak, lowerBound), '', ''],
    ]),
    '',
    ...table([
      ['segment', 'launches', 'GFLOP'],
      ...segments.map((s) => [s.segment, String(s.launches), (s.flops / 1e9).toFixed(3)]),
    ]),
    ...segments
      .slice(-1)
      .flatMap((s) => [
        '',
        `${s.segment}, each layer: ${counts(s.perLayer)}`,
        `${s.segment}, besides: ${counts(s.outside)}`,
      ]),
    ...(wholeStep ? [`${DECODE}, as one kernel: ${wholeStep}`] : []),
    '',
    `fused    ${counts(fusion.joined)}`,
    `         ${fusion.launchesBefore} launches become ${fusion.launches}, activations ${grouped(fusion.activationsBefore)} become ${grouped(fusion.activations)} bytes`,
    '',
    `activations over time (address down, ops to the right)`,
  ].join('\n')
}
