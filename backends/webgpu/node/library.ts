import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ExactmapError } from '../../../src/errors.ts'
import type { KernelLibrary } from '../link.ts'

/** Folder of the package that holds `kernels-wgsl` (source tree and installed package alike). */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  while (!existsSync(join(folder, 'kernels-wgsl'))) {
    const parent = dirname(folder)
    if (parent === folder)
      throw new ExactmapError(
        'not_found',
        'the folder kernels-wgsl of the package is missing; reinstall exactmap',
      )
    folder = parent
  }
  return folder
}

/** Reads all kernel files of a folder, by default the package's. A few dozen small files: about a millisecond. */
export function readKernelLibrary(root = join(packageRoot(), 'kernels-wgsl')): KernelLibrary {
  const files = [...readdirSync(root), ...readdirSync(join(root, 'lib')).map((f) => `lib/${f}`)]
  return new Map(
    files
      .filter((f) => f.endsWith('.wgsl'))
      .sort()
      .map((f) => [f.slice(0, -'.wgsl'.length), readFileSync(join(root, f), 'utf8')]),
  )
}
