import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { ExactmapError } from '../../../src/errors.ts'
import { writeFileAtomic } from '../../../src/formats/node_file.ts'
import type { Program } from '../../../src/program/program.ts'
import { CubinImages, type KernelImages } from '../images.ts'
import type { CudaTarget } from '../target.ts'
import type { Walker } from '../walker.ts'
import { generatedCubins } from './cubins.ts'
import { EmulatedImages, generatedEmulated } from './emulated.ts'
import { imageFolder } from './places.ts'

/**
 * Writes the images of all modules that programs need, and of walkers, to `<folder>/kernels/<arch>`, where the executable looks for them,
 * and, if asked, those of the emulated device to `<folder>/kernels/emulated`.
 *
 * @param note told when there are no cubins; only where the emulated device's images were asked for too
 * @throws ExactmapError `not_found` or `conflict` where the cubins have not been built from these sources
 */
export async function writeImages(
  folder: string,
  programs: readonly Program[],
  target: CudaTarget,
  {
    emulated,
    note,
    walkers = [],
  }: {
    readonly emulated: boolean
    readonly note: (text: string) => void
    readonly walkers?: readonly Walker[]
  },
): Promise<{ modules: number; images: string[] }> {
  const { arch } = target
  const modules = [...new Set(programs.flatMap((p) => p.kernels.flatMap((k) => k.modules)))].sort()
  const known = new CubinImages(imageFolder(arch), arch)
  const kinds: { name: string; extension: string; source: KernelImages; generated: KernelImages }[] = [
    { name: arch, extension: 'cubin', source: known, generated: generatedCubins(arch) },
    ...(emulated
      ? [
          {
            name: 'emulated',
            extension: 'so',
            source: new EmulatedImages(),
            generated: generatedEmulated(),
          },
        ]
      : []),
  ]
  const images: string[] = []
  for (const { name, extension, source, generated } of kinds) {
    const place = join(folder, 'kernels', name)
    try {
      const built = new Map<string, Uint8Array>()
      for (const module of modules) built.set(module, await source.image(module, target.moduleText(module)))
      for (const { module, text } of walkers) built.set(module, await generated.image(module, text))
      await mkdir(place, { recursive: true })
      for (const [module, image] of built)
        await writeFileAtomic(join(place, `${module}.${extension}`), [image])
      images.push(name)
    } catch (error) {
      // Without nvcc a folder for the emulated device is still of use.
      const missing = error instanceof ExactmapError && ['not_found', 'conflict'].includes(error.code)
      if (!missing || !emulated || name === 'emulated') throw error
      note(`no kernels for ${name}: ${error.message}`)
    }
  }
  return { modules: modules.length + walkers.length, images }
}
