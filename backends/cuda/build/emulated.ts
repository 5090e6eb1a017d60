import { randomUUID } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { writeFileAtomic } from '../../../src/formats/node_file.ts'
import { hashBytes, hashText } from '../../../src/program/hash.ts'
import { compileWith, knownVersion } from '../../build/tools.ts'
import { packageRoot } from '../../package_root.ts'
import { type ImageRecord, type KernelImages, readRecord } from '../images.ts'
import { emulatedDriver, emulatedNccl, generatedFolder, imageFolder } from './places.ts'
import { RecentImages } from './recent.ts'

/** No contraction: a multiplication and an addition round twice, as WGSL and the contracts' budgets assume at worst. */
const COMMON = ['-std=c++20', '-O2', '-g1', '-fPIC', '-shared', '-ffp-contract=off', '-mtls-dialect=gnu2']

const source = (...parts: string[]): string => join(packageRoot(), ...parts)

const EMULATION = ['backends', 'cuda', 'emulation']
/** Declarations that the emulated libraries share with the runtime. */
const RUNTIME_API = /^(cuda|nccl)_api\.h$/

/** Text of the files of a folder that something in the emulation is built from. */
async function folderText(folder: readonly string[], pattern: RegExp): Promise<string> {
  const files = (await readdir(source(...folder))).filter((f) => pattern.test(f)).sort()
  const texts = await Promise.all(files.map((f) => readFile(source(...folder, f), 'utf8')))
  return texts.join('\n')
}

/** Compiles to a temporary file and puts image and record in place together. */
async function build(
  output: string,
  args: readonly string[],
  file: string,
  record: Omit<ImageRecord, 'sha256' | 'compiler' | 'flags'>,
): Promise<void> {
  await mkdir(dirname(output), { recursive: true })
  // Devices of one process may build the same image at a time.
  const temporary = `${output}.${randomUUID()}`
  try {
    await compileWith('g++', [...COMMON, ...args, '-o', temporary], file, packageRoot())
    const full: ImageRecord = {
      ...record,
      sha256: hashBytes(await readFile(temporary)),
      compiler: (await knownVersion('g++')) ?? 'g++',
      flags: COMMON,
    }
    await rename(temporary, output)
    await writeFileAtomic(output.replace(/\.so$/, '.json'), [
      new TextEncoder().encode(`${JSON.stringify(full, null, 2)}\n`),
    ])
  } finally {
    await rm(temporary, { force: true })
  }
}

/** Builds a library from all sources of a folder unless it was built from them; whether there was something to do. */
async function buildLibrary(folder: readonly string[], output: string): Promise<boolean> {
  const module = basename(output, '.so')
  const texts = [
    await folderText(folder, /\.(h|cpp)$/),
    await folderText(['backends', 'cuda', 'runtime'], RUNTIME_API),
    COMMON.join(' '),
  ]
  const textHash = hashText(texts.join('\n'))
  const known = await readRecord(dirname(output), module)
  if (known?.textHash === textHash) return false
  const files = (await readdir(source(...folder))).filter((f) => f.endsWith('.cpp')).sort()
  const args = [...files.map((f) => join(...folder, f)), '-ldl', '-lpthread']
  await build(output, args, join(...folder), { module, textHash })
  return true
}

/**
 * Builds the emulated driver and the emulated NCCL unless they were built from these sources. About fifteen seconds.
 *
 * @returns whether there was something to do
 */
export async function buildEmulatedDriver(): Promise<boolean> {
  const driver = await buildLibrary(EMULATION, emulatedDriver())
  return (await buildLibrary([...EMULATION, 'nccl'], emulatedNccl())) || driver
}

/** Machine code of this processor for the emulated device, built with g++ when a kernel's text changed. */
export class EmulatedImages implements KernelImages {
  private headers: Promise<string> | undefined

  constructor(private readonly folder = imageFolder('emulated')) {}

  async image(module: string, text: string): Promise<Uint8Array> {
    const output = join(this.folder, `${module}.so`)
    this.headers ??= folderText(EMULATION, /\.h$/)
    const textHash = hashText(text + (await this.headers) + COMMON.join(' '))
    const known = await readRecord(this.folder, module)
    const image = known?.textHash === textHash ? await readFile(output).catch(() => undefined) : undefined
    if (image) return image
    await mkdir(this.folder, { recursive: true })
    const file = `${output}.${randomUUID()}.cu`
    try {
      await writeFile(file, text)
      const args = ['-Ibackends/cuda/emulation', '-x', 'c++', file]
      await build(output, args, `${module}.cu`, { module, textHash })
    } finally {
      await rm(file, { force: true })
    }
    return readFile(output)
  }
}

/** Those of generated texts, such as walkers. */
export const generatedEmulated = (): KernelImages => {
  const folder = generatedFolder('emulated')
  return new RecentImages(new EmulatedImages(folder), folder)
}
