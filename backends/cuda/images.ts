import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ExactmapError } from '../../src/errors.ts'
import { hashText } from '../../src/program/hash.ts'

/** Where machine code of kernels comes from. */
export interface KernelImages {
  /**
   * The image of a module, built from exactly this text.
   *
   * @throws ExactmapError `not_found` where it was not built, `conflict` where it was built from another text
   */
  image(module: string, text: string): Promise<Uint8Array>
}

/** What is written beside each image: `<module>.json`. */
export interface ImageRecord {
  readonly module: string
  /** Hash of the module's text with all it includes (`CudaTarget.moduleText`). */
  readonly textHash: string
  /** Hash of the image. */
  readonly sha256: string
  /** What built it: compiler and version, and its flags. */
  readonly compiler: string
  readonly flags: readonly string[]
  /** What the assembler says of each kernel; only of cubins. */
  readonly kernels?: Readonly<Record<string, KernelResources>>
}

export interface KernelResources {
  readonly registers: number
  /** Static shared memory in bytes. */
  readonly shared: number
  readonly stack: number
  readonly spillStores: number
  readonly spillLoads: number
}

export async function readRecord(folder: string, module: string): Promise<ImageRecord | undefined> {
  try {
    return JSON.parse(await readFile(join(folder, `${module}.json`), 'utf8')) as ImageRecord
  } catch {
    return undefined
  }
}

/** Cubins as `exactmap build cuda` left them. */
export class CubinImages implements KernelImages {
  constructor(
    private readonly folder: string,
    private readonly arch: string,
  ) {}

  async image(module: string, text: string): Promise<Uint8Array> {
    const build = `run npx exactmap build cuda --arch ${this.arch} where a CUDA toolkit is installed`
    const record = await readRecord(this.folder, module)
    const image = await readFile(join(this.folder, `${module}.cubin`)).catch(() => undefined)
    if (!record || !image)
      throw new ExactmapError('not_found', `${module}.cu was not built for ${this.arch}; ${build}`, {
        file: join(this.folder, `${module}.cubin`),
      })
    if (record.textHash !== hashText(text))
      throw new ExactmapError(
        'conflict',
        `${module}.cu changed since it was built for ${this.arch}; ${build}`,
        {
          file: join(this.folder, `${module}.cubin`),
        },
      )
    return image
  }
}
