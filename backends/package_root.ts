import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ExactmapError } from '../src/errors.ts'

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
