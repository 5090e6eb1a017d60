import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../../package_root.ts'
import type { KernelLibrary } from '../link.ts'

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
