import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { ExactmapError } from '../../../src/errors.ts'
import { writeFileAtomic } from '../../../src/formats/node_file.ts'
import type { Program } from '../../../src/program/program.ts'
import { CubinImages, type KernelImages } from '../images.ts'
import type { CudaTarget } from '../target.ts'
import { EmulatedImages } from './emulated.ts'
import { imageFolder } from './places.ts'

/**
 * Writes the images of all modules that programs need to `<folder>/kernels/<arch>`, where the executable looks for them,
 * and, if asked, those of the emulated device to `<folder>/kernels/emulated`.
 *
 * @param note told when there are no cubins; only where the emulated device's images were asked for too
 * @throws ExactmapError `not_found` or `conflict` where the cubins have not been built from these sources
 */
export async function writeImages(
  folder: string,
  programs: readonly Program[],
  target: CudaTarget,
  { emulated, note }: { readonly emulated: boolean; readonly note: (text: string) => void },
): Promise<{ modules: number; images: string[] }> {
  const modules = [...new Set(programs.flatMap((p) => p.kernels.flatMap((k) => k.modules)))].sort()
  const kinds: { name: string; extension: string; source: KernelImages }[] = [
    { name: target.arch, extension: 'cubin', source: new CubinImages(imageFolder(target.arch), target.arch) },
    ...(emulated ? [{ name: 'emulated', extension: 'so', source: new EmulatedImages() }] : []),
  ]
  const images: string[] = []
  for (const { name, extension, source } of kinds) {
    const place = join(folder, 'kernels', name)
    try {
      const built: Uint8Array[] = []
      for (const module of modules) built.push(await source.image(module, target.moduleText(module)))
      await mkdir(place, { recursive: true })
      for (const [i, module] of modules.entries())
        await writeFileAtomic(join(place, `${module}.${extension}`), [built[i]!])
      images.push(name)
    } catch (error) {
      // Without nvcc a folder for the emulated device is still of use.
      const missing = error instanceof ExactmapError && ['not_found', 'conflict'].includes(error.code)
      if (!missing || !emulated || name === 'emulated') throw error
      note(`no kernels for ${name}: ${error.message}`)
    }
  }
  return { modules: modules.length, images }
}
