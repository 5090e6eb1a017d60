import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Command } from 'commander'
import { inParallel, installHint, knownVersion } from '../../backends/build/tools.ts'
import { buildCubin } from '../../backends/cuda/build/cubins.ts'
import { buildEmulatedDriver, EmulatedImages } from '../../backends/cuda/build/emulated.ts'
import { buildNative } from '../../backends/cuda/build/native.ts'
import type { ImageRecord } from '../../backends/cuda/images.ts'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { type CudaTarget, cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { buildMpi } from '../../backends/mpi/build.ts'
import { check, ExactmapError } from '../errors.ts'
import { ProgressLine } from './options.ts'
import { table } from './table.ts'

interface CudaBuild {
  /** Files of the runtime that were built; absent where the tools are missing. */
  readonly native?: readonly string[]
  readonly cubins: Readonly<Record<string, readonly ImageRecord[]>>
  readonly emulated?: readonly string[]
  /** What could not be built, and what to do. */
  readonly missing: readonly string[]
}

const archOf = (name: string): string => name.slice('cuda-'.length)

function parseArchs(text: string): string[] {
  const known = Object.keys(cudaTraits).map(archOf)
  const asked = text.split(',').map((a) => a.trim())
  for (const arch of asked)
    if (!known.includes(arch))
      throw new ExactmapError(
        'invalid_argument',
        `--arch takes ${known.join(' and ')}, separated by commas; got '${arch}'`,
      )
  return asked
}

/**
 * `exactmap build cuda`: the addon, the executable and the kernels' machine code, from the sources in the package;
 * `exactmap build mpi`: the addon that joins ranks.
 */
export function buildCommand(): Command {
  return new Command('build')
    .description('compile native parts: runtime, kernels and emulated device of CUDA, or the addon for MPI')
    .argument('<what>', 'cuda or mpi')
    .option(
      '--arch <list>',
      'exact architectures to build kernels for (default: sm_90a,sm_103a where nvcc exists)',
    )
    .option('--emulated', 'also build the emulated device and its kernels (needs g++)')
    .option(
      '--import <file>',
      'a JavaScript module that registers ops of your own; their kernels are built too',
    )
    .option('--json', 'print what was built as JSON')
    .addHelpText(
      'after',
      '\ncuda: runtime and addon need a C++ compiler and CMake, kernels a CUDA 13 toolkit. What has no tools is left out and named.\nmpi: needs a C++ compiler, CMake and the MPI that starts the ranks (mpicc on the PATH); takes --json only.',
    )
    .action(
      async (what: string, o: { arch?: string; emulated?: boolean; import?: string; json?: boolean }) => {
        if (what === 'mpi') {
          check(
            !o.arch && !o.emulated && !o.import,
            'invalid_argument',
            'build mpi takes no option but --json: --arch, --emulated and --import are of build cuda',
          )
          const native = await buildMpi()
          process.stdout.write(o.json ? `${JSON.stringify({ native }, null, 2)}\n` : nativeText(native))
          return
        }
        check(what === 'cuda', 'invalid_argument', `build knows 'cuda' and 'mpi', got '${what}'`)
        if (o.import) await importModule(o.import)
        const built = await buildCuda(o.arch ? parseArchs(o.arch) : undefined, o.emulated ?? false)
        process.stdout.write(o.json ? `${JSON.stringify(built, null, 2)}\n` : text(built))
        if (o.arch && built.missing.length > 0) process.exitCode = 1
      },
    )
}

async function importModule(file: string): Promise<void> {
  await import(pathToFileURL(resolve(file)).href).catch((cause) => {
    throw new ExactmapError('invalid_argument', `--import failed: ${cause.message}`, { file }, { cause })
  })
}

async function buildCuda(archs: readonly string[] | undefined, emulated: boolean): Promise<CudaBuild> {
  const progress = new ProgressLine()
  const missing: string[] = []
  const sources = readCudaSources()
  const targets = Object.values(cudaTraits).map((traits) => cudaTarget(traits, sources))
  progress.show('runtime and addon', true)
  const native = await buildNative().catch((error) => noted(error, missing))

  const cubins: Record<string, ImageRecord[]> = {}
  if (await knownVersion('nvcc')) {
    const jobs = targets
      .filter((t) => !archs || archs.includes(t.arch))
      .flatMap((target) => target.modules().map((module) => ({ target, module })))
    let done = 0
    await inParallel(jobs, async ({ target, module }: { target: CudaTarget; module: string }) => {
      const record = await buildCubin(target, module)
      progress.show(`${target.arch} ${module} (${++done} of ${jobs.length})`)
      cubins[target.arch] = [...(cubins[target.arch] ?? []), record]
    })
    for (const records of Object.values(cubins)) records.sort((a, b) => (a.module < b.module ? -1 : 1))
  } else missing.push(`kernels: nvcc is not installed; ${installHint('nvcc')}`)

  let images: string[] | undefined
  if (emulated) {
    progress.show('emulated device', true)
    await buildEmulatedDriver()
    const source = new EmulatedImages()
    // The text of a module is the same for every target that has it.
    const texts = new Map(targets.flatMap((t) => t.modules().map((m) => [m, t.moduleText(m)] as const)))
    let done = 0
    images = await inParallel([...texts], async ([module, text]) => {
      await source.image(module, text)
      progress.show(`emulated ${module} (${++done} of ${texts.size})`)
      return module
    })
  }
  progress.clear()
  return { ...(native ? { native } : {}), cubins, ...(images ? { emulated: images } : {}), missing }
}

/** Missing tools are told at the end; anything else is an error. */
function noted(error: unknown, missing: string[]): undefined {
  if (!(error instanceof ExactmapError) || error.code !== 'not_found') throw error
  missing.push(error.message)
  return undefined
}

const nativeText = (files: readonly string[]): string => files.map((file) => `built ${file}\n`).join('')

function text({ native = [], cubins, emulated, missing }: CudaBuild): string {
  const lines: string[] = []
  for (const [arch, records] of Object.entries(cubins)) {
    const rows = records.flatMap(({ kernels = {} }) =>
      Object.entries(kernels).map(([name, k]) => [name, `${k.registers}`, `${k.shared}`, `${k.stack}`]),
    )
    lines.push('', `${arch}: ${records.length} cubins, ${records[0]?.compiler ?? ''}`)
    lines.push(...table([['kernel', 'registers', 'shared bytes', 'stack bytes'], ...rows]))
  }
  if (emulated) lines.push('', `emulated device: ${emulated.length} kernel files`)
  lines.push(...missing.map((what) => `missing: ${what}`))
  return `${nativeText(native)}${lines.map((line) => `${line}\n`).join('')}`
}
