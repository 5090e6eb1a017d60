import { chmod, copyFile, mkdir, open, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { Command, Option } from 'commander'
import { executableFile } from '../../backends/cuda/build/native.ts'
import { writeImages } from '../../backends/cuda/build/write_images.ts'
import { encodeCaseFile } from '../../backends/cuda/case_file.ts'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { encodeModelFile, type ModelTensor, tensorChecksum } from '../../backends/cuda/model_file.ts'
import { encodeProgramFile } from '../../backends/cuda/program_file.ts'
import { type CudaTarget, cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { type Walker, walkersOf } from '../../backends/cuda/walker.ts'
import { packageRoot } from '../../backends/package_root.ts'
import type { ActivationFormat } from '../engine/activations.ts'
import { inferenceSpec } from '../engine/defaults.ts'
import { inferenceGraph, segmentOfPrefill } from '../engine/inference_graph.ts'
import { DECODE, predictDecode, predictionText } from '../engine/whole_step.ts'
import { check, ExactmapError } from '../errors.ts'
import { parseJson } from '../formats/json.ts'
import { openModelFolder } from '../formats/model_folder.ts'
import { refuseIo, writeFileAtomic } from '../formats/node_file.ts'
import { loadTokenizer } from '../formats/tokenizer.ts'
import { PAGE_TOKENS } from '../kv_cache/layout.ts'
import { familyOf } from '../models/index.ts'
import { writeWeights } from '../models/weights.ts'
import { compile } from '../program/compile.ts'
import type { Program } from '../program/program.ts'
import { cudaCase } from '../verify/cuda_cases.ts'
import { withVariants } from '../verify/run.ts'
import { readVectors } from '../verify/suite.ts'
import { vectorName } from '../verify/vector.ts'
import {
  activationsOption,
  contextOption,
  grouped,
  kvOption,
  ProgressLine,
  weightsOption,
  wholeStepOption,
} from './options.ts'
import { bundledModel, examplePrompt } from './run.ts'

interface ExportReport {
  readonly folder: string
  readonly target: string
  /** Kernel modules, and the kinds of images that were written of each. */
  readonly modules: number
  readonly images: readonly string[]
  readonly model?: { readonly name: string; readonly weightBytes: number; readonly tokens: number }
  /** What `--whole-step` made of the decode step. */
  readonly decode?: string
  readonly cases?: number
}

const WEIGHTS = 'weights.bin'

/** `exactmap export`: a folder that `exactmap-cuda` runs without Node. */
export function exportCommand(): Command {
  return new Command('export')
    .description('write a model, or the stored vectors, with kernels, for the executable that needs no Node')
    .argument('[model]', 'a Hugging Face model folder (default: the model that comes with exactmap)')
    .requiredOption('--to <folder>', 'where to write; made if it is not there')
    .option('--vectors [op...]', 'write the stored test vectors (of these ops, or all) instead of a model')
    .addOption(
      new Option('--arch <arch>', 'exact architecture to compile for')
        .choices(Object.values(cudaTraits).map((t) => t.arch))
        .default('sm_90a'),
    )
    .option('--emulated', 'also write kernels for the emulated device')
    .addOption(contextOption())
    .addOption(weightsOption())
    .addOption(activationsOption())
    .addOption(kvOption())
    .addOption(wholeStepOption())
    .option('-p, --prompt <text>', 'what the executable continues where it is given no tokens')
    .option('--json', 'print the report as JSON')
    .addHelpText(
      'after',
      '\nThen, where no Node is installed: <folder>/exactmap-cuda run <folder>, or verify <folder>.',
    )
    .action(async (path: string | undefined, o) => {
      check(
        !(o.vectors && path !== undefined),
        'invalid_argument',
        'export takes a model or --vectors, not both',
      )
      const progress = new ProgressLine()
      const traits = Object.values(cudaTraits).find((t) => t.arch === o.arch)!
      const target = cudaTarget(traits, readCudaSources())
      await mkdir(o.to, { recursive: true }).catch((cause) => refuseIo(o.to, 'making the folder', cause))
      const written = o.vectors
        ? await exportVectors(o.to, o.vectors === true ? [] : o.vectors, target, progress)
        : await exportModel(o.to, path ?? bundledModel(), target, o, progress)
      const images = await writeImages(o.to, written.programs, target, {
        emulated: o.emulated ?? false,
        note: (text) => process.stderr.write(`${text}\n`),
        walkers: written.walkers,
      })
      await copyFile(executableFile(), join(o.to, 'exactmap-cuda')).catch(() => {
        throw new ExactmapError('not_found', 'the executable is not built; run npx exactmap build cuda')
      })
      await chmod(join(o.to, 'exactmap-cuda'), 0o755)
      progress.clear()
      const report: ExportReport = { folder: o.to, target: target.name, ...images, ...written.report }
      process.stdout.write(o.json ? `${JSON.stringify(report, null, 2)}\n` : text(report))
    })
}

interface Written {
  readonly programs: readonly Program[]
  readonly walkers: readonly Walker[]
  readonly report: Pick<ExportReport, 'model' | 'decode' | 'cases'>
}

async function exportVectors(
  folder: string,
  ops: readonly string[],
  target: CudaTarget,
  progress: ProgressLine,
): Promise<Written> {
  const vectors = withVariants(await readVectors(join(packageRoot(), 'test', 'vectors'), ops), target)
  const programs: Program[] = []
  for (const [i, vector] of vectors.entries()) {
    progress.show(`case ${i + 1} of ${vectors.length}`)
    const { file, program } = cudaCase(vector, target)
    programs.push(program)
    const place = join(folder, 'cases', vector.op)
    await mkdir(place, { recursive: true })
    await writeFileAtomic(join(place, `${vectorName(vector)}.case`), [encodeCaseFile(file)])
  }
  return { programs, walkers: [], report: { cases: vectors.length } }
}

async function exportModel(
  folder: string,
  path: string,
  target: CudaTarget,
  options: {
    context?: number
    weights: 'f16'
    kv: 'f16'
    activations: ActivationFormat
    wholeStep?: boolean
    prompt?: string
  },
  progress: ProgressLine,
): Promise<Written> {
  const source = await openModelFolder(path)
  try {
    const family = familyOf(source.config)
    const config = family.parse(source.config)
    const { tokenizer: file, tokenizerConfig } = source.files
    check(file, 'not_found', 'the model folder has no tokenizer.json')
    const tokenizer = loadTokenizer(
      await readFile(file),
      tokenizerConfig && parseJson(await readFile(tokenizerConfig), tokenizerConfig),
    )
    const spec = inferenceSpec(config, {
      ...(options.context === undefined ? {} : { context: options.context }),
      weights: options.weights,
      activations: options.activations,
      kv: options.kv,
    })
    const name = `${family.name}-inference`
    const program = compile(inferenceGraph(name, family, config, spec), target)
    const prediction = options.wholeStep ? predictDecode(program, spec) : undefined
    const walkers = walkersOf(program, prediction?.whole ? [DECODE] : [], target)
    const { tensors, bytes } = await writeWeightFile(
      folder,
      source.weights,
      family.parameters(config),
      program,
      progress,
    )
    const prompt = options.prompt ?? (path === bundledModel() ? examplePrompt : '')
    await writeFileAtomic(join(folder, 'model.exm'), [
      encodeModelFile({
        name,
        program: encodeProgramFile(program, target, walkers),
        context: spec.context,
        batch: spec.batch,
        pageTokens: PAGE_TOKENS,
        prefill: spec.prefill.map((rows) => ({ rows, segment: segmentOfPrefill(rows) })),
        decode: 'decode',
        token: 'token',
        files: [WEIGHTS],
        tensors,
        tokens: Array.from({ length: tokenizer.vocabSize }, (_, id) => tokenizer.bytesOf(id)),
        stop: tokenizer.eos === undefined ? [] : [tokenizer.eos],
        prompt: prompt === '' ? [] : [...tokenizer.encode(prompt)],
      }),
    ])
    return {
      programs: [program],
      walkers: [...walkers.values()],
      report: {
        model: { name, weightBytes: bytes, tokens: tokenizer.vocabSize },
        ...(prediction ? { decode: predictionText(prediction) } : {}),
      },
    }
  } finally {
    await source.close()
  }
}

/** The weights as they lie in their arena, one tensor in memory at a time. */
async function writeWeightFile(
  folder: string,
  reader: Parameters<typeof writeWeights>[1],
  parameters: Parameters<typeof writeWeights>[0],
  program: Program,
  progress: ProgressLine,
): Promise<{ tensors: ModelTensor[]; bytes: number }> {
  const plan = program.arenas.find((a) => a.kind === 'weights')!
  const temporary = join(folder, `${WEIGHTS}.part`)
  const handle = await open(temporary, 'w').catch((cause) => refuseIo(temporary, 'writing', cause))
  const tensors: ModelTensor[] = []
  try {
    let writes = Promise.resolve()
    await writeWeights(
      parameters,
      reader,
      plan,
      (offset, bytes) => {
        const { name } = plan.tensors.find((t) => t.offset === offset)!
        const checksum = tensorChecksum(bytes)
        const size = bytes.byteLength
        tensors.push({ name, arena: 'weights', offset, bytes: size, file: 0, fileOffset: offset, checksum })
        writes = writes.then(async () => {
          for (let at = 0; at < size; )
            at += (await handle.write(bytes, at, Math.min(size - at, 2 ** 30), offset + at)).bytesWritten
        })
      },
      (done, total) => progress.show(`weights ${Math.round((100 * done) / total)} %`),
    )
    await writes
    await handle.truncate(plan.bytes)
    await handle.sync()
  } catch (cause) {
    if (cause instanceof ExactmapError) throw cause
    refuseIo(temporary, 'writing', cause)
  } finally {
    await handle.close()
  }
  await rename(temporary, join(folder, WEIGHTS))
  return { tensors, bytes: plan.bytes }
}

function text({ folder, target, modules, images, model, decode, cases }: ExportReport): string {
  const what = model
    ? `${model.name}, ${grouped(model.weightBytes)} bytes of weights, ${model.tokens} tokens`
    : `${cases} stored vectors`
  return [
    `wrote     ${folder}: ${what}`,
    `target    ${target}`,
    `kernels   ${modules} modules for ${images.join(' and ')}`,
    ...(decode ? [`decode    ${decode}`] : []),
    `run it    ${folder}/exactmap-cuda ${model ? 'run' : 'verify'} ${folder}`,
    '',
  ].join('\n')
}
