import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { writeFileAtomic } from '../../../src/formats/node_file.ts'
import { hashBytes, hashText } from '../../../src/program/hash.ts'
import { compileWith, knownVersion } from '../../build/tools.ts'
import { packageRoot } from '../../package_root.ts'
import { type ImageRecord, type KernelImages, readRecord } from '../images.ts'
import { emulatedDriver, imageFolder } from './places.ts'

/** No contraction: a multiplication and an addition round twice, as WGSL and the contracts' budgets assume at worst. */
const COMMON = ['-std=c++20', '-O2', '-g1', '-fPIC', '-shared', '-ffp-contract=off', '-mtls-dialect=gnu2']

const source = (...parts: string[]): string => join(packageRoot(), ...parts)

/** Text of everything in the emulation that a kernel's image (`.h`) or the driver (all) is built from. */
async function emulationText(pattern: RegExp): Promise<string> {
  const folder = source('backends', 'cuda', 'emulation')
  const files = (await readdir(folder)).filter((f) => pattern.test(f)).sort()
  const texts = await Promise.all(files.map((f) => readFile(join(folder, f), 'utf8')))
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
  const temporary = `${output}.${process.pid}`
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

/**
 * Builds the emulated driver unless it was built from these sources. About ten seconds.
 *
 * @returns whether there was something to do
 */
export async function buildEmulatedDriver(): Promise<boolean> {
  const output = emulatedDriver()
  const textHash = hashText((await emulationText(/\.(h|cpp)$/)) + COMMON.join(' '))
  const known = await readRecord(dirname(output), 'libcuda-emulated')
  if (known?.textHash === textHash) return false
  const folder = source('backends', 'cuda', 'emulation')
  const files = (await readdir(folder)).filter((f) => f.endsWith('.cpp')).sort()
  const args = [...files.map((f) => join('backends/cuda/emulation', f)), '-ldl', '-lpthread']
  await build(output, args, 'backends/cuda/emulation', { module: 'libcuda-emulated', textHash })
  return true
}

/** Machine code of this processor for the emulated device, built with g++ when a kernel's text changed. */
export class EmulatedImages implements KernelImages {
  private readonly folder = imageFolder('emulated')
  private headers: Promise<string> | undefined

  async image(module: string, text: string): Promise<Uint8Array> {
    const output = join(this.folder, `${module}.so`)
    this.headers ??= emulationText(/\.h$/)
    const textHash = hashText(text + (await this.headers) + COMMON.join(' '))
    const known = await readRecord(this.folder, module)
    const image = known?.textHash === textHash ? await readFile(output).catch(() => undefined) : undefined
    if (image) return image
    await mkdir(this.folder, { recursive: true })
    const file = `${output}.${process.pid}.cu`
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
