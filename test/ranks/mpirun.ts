import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { knownVersion } from '../../backends/build/tools.ts'
import { addonFile } from '../../backends/mpi/addon.ts'
import { packageRoot } from '../../backends/package_root.ts'

/** Why ranks can't be started here; undefined where they can. */
export async function whyNoRanks(): Promise<string | undefined> {
  if (!(await knownVersion('mpirun'))) return 'mpirun is not installed'
  if (!existsSync(addonFile())) return 'the MPI addon is not built (npx exactmap build mpi)'
  return undefined
}

/** Bundles a script for plain Node; returns its file. */
export async function bundled(name: string, folder = 'test/ranks'): Promise<string> {
  const outfile = join(packageRoot(), 'dist', 'test', `${name}.js`)
  const entry = join(packageRoot(), folder, `${name}.ts`)
  const shared = { bundle: true, platform: 'node', format: 'esm', packages: 'external' } as const
  await build({ ...shared, entryPoints: [entry], outfile, logLevel: 'warning' })
  return outfile
}

export interface Run {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** More ranks than cores, also as root, as in CI. */
export const mpirunArguments = (ranks: number): string[] => [
  ...(process.getuid?.() === 0 ? ['--allow-run-as-root'] : []),
  ...['--oversubscribe', '-np', `${ranks}`],
]

/** Runs a script on ranks to its end; at most 50 seconds. `options` are mpirun's. */
export function mpirun(
  ranks: number,
  script: string,
  args: readonly string[],
  options: readonly string[] = [],
): Promise<Run> {
  const command = [...mpirunArguments(ranks), ...options, process.execPath, script, ...args]
  return new Promise((resolve, reject) => {
    const child = spawn('mpirun', command, { stdio: ['ignore', 'pipe', 'pipe'], timeout: 50_000 })
    const text = { out: '', err: '' }
    child.stdout.on('data', (chunk) => (text.out += chunk))
    child.stderr.on('data', (chunk) => (text.err += chunk))
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, ...text }))
  })
}
