import { readdir, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import type { KernelImages } from '../images.ts'

/** Images of a folder that are kept: walkers of some dozen models, or of one whose kernels are being changed. */
const KEPT = 32

/**
 * Images of generated texts, whose names have their text's hash: each change of a kernel makes another. The ones that
 * were used last stay.
 */
export class RecentImages implements KernelImages {
  constructor(
    private readonly source: KernelImages,
    private readonly folder: string,
    private readonly kept = KEPT,
  ) {}

  async image(module: string, text: string): Promise<Uint8Array> {
    const image = await this.source.image(module, text)
    const now = new Date()
    // Another process may be removing what it takes for old.
    await utimes(join(this.folder, `${module}.json`), now, now).catch(() => {})
    await this.prune()
    return image
  }

  private async prune(): Promise<void> {
    const files = await readdir(this.folder)
    const records = files.filter((file) => file.endsWith('.json'))
    if (records.length <= this.kept) return
    const used = await Promise.all(
      records.map(async (file) => {
        const { mtimeMs } = await stat(join(this.folder, file)).catch(() => ({ mtimeMs: 0 }))
        return { module: file.slice(0, -'.json'.length), mtimeMs }
      }),
    )
    const old = used.toSorted((a, b) => b.mtimeMs - a.mtimeMs).slice(this.kept)
    for (const file of files)
      if (old.some(({ module }) => file.startsWith(`${module}.`)))
        await rm(join(this.folder, file), { force: true })
  }
}
