import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'
import { join } from 'node:path'
import { packageRoot } from '../backends/package_root.ts'

const git = (...args: string[]): string =>
  execFileSync('git', args, { cwd: packageRoot(), encoding: 'utf8' }).trim()

/** What is measured, read once when the process starts: the commit, `+changes` where what runs differs from it. */
export const commit: string =
  git('rev-parse', '--short', 'HEAD') +
  (git('status', '--porcelain', '--', 'src', 'backends', 'kernels-*', 'bench', ':!bench/results')
    ? '+changes'
    : '')

/** Takes `--save <name>` out of the arguments; the rest are the benchmark's own. */
export function takeSave(args: string[]): string | undefined {
  const at = args.indexOf('--save')
  return at >= 0 ? args.splice(at, 2)[1] : undefined
}

/** Writes figures to bench/results/<name>.json with what makes them worth keeping: command, commit, date, load. */
export function saveResult(name: string, bench: string, figures: object): void {
  const driver = process.env.EXACTMAP_DRIVER
  const result = {
    bench,
    date: new Date().toISOString().slice(0, 10),
    cores: cpus().length,
    // Of the last minute; above the number of cores, trust the ratio to the peer only.
    loadAverage: Number(loadavg()[0]!.toFixed(1)),
    command: `${driver ? `EXACTMAP_DRIVER=${driver} ` : ''}node dist/bench/${bench.split('/').at(-1)}.js ${process.argv.slice(2).join(' ')}`,
    commit,
    ...figures,
  }
  writeResult(name, result)
}

/** Writes bench/results/<name>.json. */
export function writeResult(name: string, result: object): void {
  const folder = join(packageRoot(), 'bench', 'results')
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(result, undefined, 2)}\n`)
}

/** bench/results/<name>.json, if it is there. */
export function readResult(name: string): unknown {
  const path = join(packageRoot(), 'bench', 'results', `${name}.json`)
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : undefined
}
