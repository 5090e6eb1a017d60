import { spawn } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { ExactmapError } from '../../src/errors.ts'

export interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

/** Runs a program to its end; undefined where there is no such program. */
export function runTool(command: string, args: readonly string[], cwd?: string): Promise<Ran | undefined> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...(cwd ? { cwd } : {}) })
    const output = { out: '', err: '' }
    child.stdout.on('data', (chunk) => (output.out += chunk))
    child.stderr.on('data', (chunk) => (output.err += chunk))
    child.on('error', (error: NodeJS.ErrnoException) =>
      error.code === 'ENOENT' ? resolve(undefined) : reject(error),
    )
    child.on('close', (code) => resolve({ code: code ?? 1, ...output }))
  })
}

/** First line of `command --version` that has a version number; undefined where there is no such program. */
export async function versionOf(command: string): Promise<string | undefined> {
  const ran = await runTool(command, ['--version'])
  const lines = ran?.out.split('\n') ?? []
  return lines.find((line) => /\bV?\d+\.\d+\.\d+/.test(line))?.trim() ?? lines[0]
}

const known = new Map<string, Promise<string | undefined>>()

/** The same, asked once per process. */
export function knownVersion(command: string): Promise<string | undefined> {
  const asked = known.get(command) ?? versionOf(command)
  known.set(command, asked)
  return asked
}

/** Runs a compiler; what it printed becomes the error. */
export async function compileWith(
  command: string,
  args: readonly string[],
  file: string,
  cwd: string,
): Promise<Ran> {
  const ran = await runTool(command, args, cwd)
  if (!ran)
    throw new ExactmapError('not_found', `${command} is not installed; ${installHint(command)}`, { file })
  if (ran.code !== 0)
    throw new ExactmapError('kernel_compile', `${command} refused it:\n${(ran.err || ran.out).trim()}`, {
      file,
    })
  return ran
}

/** What to do about a program that is not there. */
export function installHint(command: string): string {
  if (command === 'nvcc') return 'install a CUDA 13 toolkit and put its bin folder on the PATH'
  if (command === 'mpicc' || command === 'mpirun')
    return `install Open MPI (Debian, Ubuntu: apt-get install openmpi-bin libopenmpi-dev) or put the cluster's own on the PATH`
  return 'install a C++ compiler and CMake (Debian, Ubuntu: apt-get install g++ cmake)'
}

/** Runs `work` on every item, as many at a time as there are processors; results in order. */
export async function inParallel<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = new Array(items.length)
  let next = 0
  const worker = async (): Promise<void> => {
    for (let i = next++; i < items.length; i = next++) results[i] = await work(items[i]!)
  }
  await Promise.all(Array.from({ length: Math.min(items.length, availableParallelism()) }, worker))
  return results
}
