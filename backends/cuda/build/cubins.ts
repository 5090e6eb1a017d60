import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { check, ExactmapError } from '../../../src/errors.ts'
import { writeFileAtomic } from '../../../src/formats/node_file.ts'
import { hashBytes, hashText } from '../../../src/program/hash.ts'
import { compileWith, knownVersion } from '../../build/tools.ts'
import {
  CubinImages,
  type ImageRecord,
  type KernelImages,
  type KernelResources,
  readRecord,
} from '../images.ts'
import type { CudaTarget } from '../target.ts'
import { generatedFolder, imageFolder } from './places.ts'
import { RecentImages } from './recent.ts'

/** Flags of nvcc for an exact architecture: the `a` gives its own instructions, and no PTX is embedded. */
const flagsFor = (arch: string): string[] => {
  const number = arch.replace('sm_', '')
  return [
    '-std=c++17',
    '-O3',
    '-Werror=all-warnings',
    `-gencode=arch=compute_${number},code=${arch}`,
    '-cubin',
    '-Xptxas=-v',
  ]
}

/**
 * Builds one module's cubin and its record, unless this compiler has built it from this text. The same text and compiler
 * give the same bytes: nothing else of the machine goes in.
 *
 * @throws ExactmapError `not_found` without nvcc; `kernel_compile` with the compiler's words, or for a kernel that
 *   spills registers to memory, or whose wgmma or registers are not used as its text says
 */
export const buildCubin = (target: CudaTarget, module: string): Promise<ImageRecord> =>
  buildText(imageFolder(target.arch), target.arch, module, target.moduleText(module))

async function buildText(folder: string, arch: string, module: string, text: string): Promise<ImageRecord> {
  await mkdir(folder, { recursive: true })
  const flags = flagsFor(arch)
  const output = join(folder, `${module}.cubin`)
  const file = `${module}.cu`
  const textHash = hashText(text)
  const compiler = (await knownVersion('nvcc')) ?? 'nvcc'
  const known = await readRecord(folder, module)
  if (known?.textHash === textHash && known.compiler === compiler && known.flags.join() === flags.join()) {
    const image = await readFile(output).catch(() => undefined)
    if (image && hashBytes(image) === known.sha256) return known
  }
  // Names of a text's folder may end up in what is built from it: each build has the same relative ones.
  const work = await mkdtemp(join(tmpdir(), 'exactmap-'))
  try {
    await writeFile(join(work, file), text)
    const { err, out } = await compileWith('nvcc', [...flags, file, '-o', 'image'], file, work)
    const kernels = parseResources(out + err)
    for (const [kernel, { spillStores, spillLoads }] of Object.entries(kernels))
      if (spillStores + spillLoads > 0)
        throw new ExactmapError(
          'kernel_compile',
          `${arch}: spills ${spillStores} bytes of stores and ${spillLoads} of loads; give its threads less to hold`,
          { kernel, file },
        )
    // Only told by ptxas: wgmma that waits for one another, setmaxnreg that has no effect.
    const slowed = /\(C75\d\d\) .*/.exec(out + err)
    if (slowed) throw new ExactmapError('kernel_compile', `${arch}: ${slowed[0]}`, { file })
    check(Object.keys(kernels).length > 0, 'internal', `${file}: the assembler reported no kernel`)
    const image = await readFile(join(work, 'image'))
    const record: ImageRecord = {
      module,
      textHash,
      sha256: hashBytes(image),
      compiler,
      flags,
      kernels,
    }
    await writeFileAtomic(output, [image])
    await writeFileAtomic(join(folder, `${module}.json`), [
      new TextEncoder().encode(`${JSON.stringify(record, null, 2)}\n`),
    ])
    return record
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** Cubins of generated texts, such as walkers: built with nvcc where they are not at hand. */
export class BuiltCubins implements KernelImages {
  private readonly folder: string
  private readonly known: CubinImages

  constructor(private readonly arch: string) {
    this.folder = generatedFolder(arch)
    this.known = new CubinImages(this.folder, arch)
  }

  /** @throws ExactmapError what `buildCubin` throws */
  async image(module: string, text: string): Promise<Uint8Array> {
    try {
      return await this.known.image(module, text)
    } catch (error) {
      if (!(error instanceof ExactmapError && ['not_found', 'conflict'].includes(error.code))) throw error
      await buildText(this.folder, this.arch, module, text)
      return this.known.image(module, text)
    }
  }
}

/** Those of generated texts, as many as were used last. */
export const generatedCubins = (arch: string): KernelImages =>
  new RecentImages(new BuiltCubins(arch), generatedFolder(arch))

/** What `ptxas -v` prints of each entry function. */
export function parseResources(text: string): Record<string, KernelResources> {
  const kernels: Record<string, KernelResources> = {}
  for (const part of text.split(/Compiling entry function '/).slice(1)) {
    const number = (pattern: RegExp): number => Number(pattern.exec(part)?.[1] ?? 0)
    kernels[part.slice(0, part.indexOf("'"))] = {
      registers: number(/Used (\d+) registers/),
      shared: number(/(\d+) bytes smem/),
      stack: number(/(\d+) bytes stack frame/),
      spillStores: number(/(\d+) bytes spill stores/),
      spillLoads: number(/(\d+) bytes spill loads/),
    }
  }
  return kernels
}
