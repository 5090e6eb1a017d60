import { mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { generatedCubins } from '../../backends/cuda/build/cubins.ts'
import { generatedEmulated } from '../../backends/cuda/build/emulated.ts'
import { encodeCaseFile } from '../../backends/cuda/case_file.ts'
import { packageRoot } from '../../backends/package_root.ts'
import { writeFileAtomic } from '../../src/formats/node_file.ts'
import { primitiveCase } from '../../test/cuda/emulation/primitive.ts'
import { primitives, targetOfPrimitives } from '../../test/cuda/emulation/primitives.ts'
import type { PreparedCase } from './journal.ts'

/** What was written: cases in the order in which they are asked for, and the module of each of their kernels. */
export interface PreparedPrimitives {
  readonly cases: readonly PreparedCase[]
  readonly modules: Readonly<Record<string, string>>
}

/**
 * Writes the primitives of test/cuda/emulation as cases, with their images for `kind`: an exact architecture, or
 * `emulated`. They are no kernels of the package, so their images are kept as those of generated texts are.
 */
export async function writePrimitives(
  folder: string,
  arch: string,
  kind: string,
): Promise<PreparedPrimitives> {
  const target = targetOfPrimitives(packageRoot(), arch, primitives)
  const images = kind === 'emulated' ? generatedEmulated() : generatedCubins(kind)
  const modules = [...new Set(primitives.map(({ file }) => file))]
  for (const module of modules) {
    const image = await images.image(module, target.moduleText(module))
    const path = join(folder, 'kernels', kind, `${module}.${kind === 'emulated' ? 'so' : 'cubin'}`)
    await mkdir(dirname(path), { recursive: true })
    await writeFileAtomic(path, [image])
  }
  const cases: PreparedCase[] = []
  for (const one of primitives) {
    const { file } = primitiveCase(one, target)
    const path = join(folder, 'cases', `${file.id}.case`)
    await mkdir(dirname(path), { recursive: true })
    await writeFileAtomic(path, [encodeCaseFile(file)])
    cases.push({ case: file.id, kernels: [one.kernel] })
  }
  return { cases, modules: Object.fromEntries(primitives.map(({ kernel, file }) => [kernel, file])) }
}
