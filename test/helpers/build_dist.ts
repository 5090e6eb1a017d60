import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../../backends/package_root.ts'

/** Builds dist where it is missing or older than a source. Three seconds, or a few milliseconds. */
export function buildDist(): void {
  const root = packageRoot()
  const inputs = ['src', 'backends', 'kernels-wgsl'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((file) => join(folder, file)),
  )
  const changed = (file: string): number => statSync(join(root, file)).mtimeMs
  // kernels.json is written after the bundles.
  const built = existsSync(join(root, 'dist/kernels.json')) ? changed('dist/kernels.json') : 0
  const newest = Math.max(...[...inputs, 'package.json', 'build.mjs'].map(changed))
  if (newest >= built) execFileSync(process.execPath, ['build.mjs'], { cwd: root, stdio: 'inherit' })
}
