import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../package_root.ts'
import type { CudaSources } from './target.ts'

/** Reads all kernel sources of a folder, by default the package's. */
export function readCudaSources(root = join(packageRoot(), 'kernels-cuda')): CudaSources {
  const files = [...readdirSync(root), ...readdirSync(join(root, 'lib')).map((f) => `lib/${f}`)]
  return new Map(
    files
      .filter((f) => /\.(cu|h)$/.test(f))
      .sort()
      .map((f) => [f, readFileSync(join(root, f), 'utf8')]),
  )
}
