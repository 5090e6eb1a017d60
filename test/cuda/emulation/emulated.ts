import { execFile, execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import { buildEmulatedDriver } from '../../../backends/cuda/build/emulated.ts'
import { emulatedDriver } from '../../../backends/cuda/build/places.ts'
import type { CudaTarget } from '../../../backends/cuda/target.ts'
import { type Primitive, scriptOf } from './primitive.ts'

/** Builds the emulated driver, kernels and the script host with g++, and runs scripts on them. */

export const here = import.meta.dirname
const root = join(here, '../../..')
const emulation = join(root, 'backends/cuda/emulation')

/** Why no test of the emulation can run here; undefined where they can. */
export const missing = compilerProblem()

function compilerProblem(): string | undefined {
  if (process.platform !== 'linux') return 'the emulated device runs on Linux only'
  const { status } = spawnSync('g++', ['--version'], { stdio: 'ignore' })
  return status === 0 ? undefined : 'g++ is not installed'
}

export type Sanitizer = 'none' | 'address' | 'undefined'

const sanitizerFlags: Record<Sanitizer, string[]> = {
  none: [],
  address: ['-fsanitize=address'],
  undefined: ['-fsanitize=undefined', '-fno-sanitize-recover=undefined'],
}

const files = (folder: string, ...endings: string[]): string[] =>
  readdirSync(folder)
    .filter((file) => endings.some((ending) => file.endsWith(ending)))
    .sort()
    .map((file) => join(folder, file))

/** Outputs are kept by the hash of their command and of every file they may be built from. */
const cache = join(tmpdir(), 'exactmap-emulation')
const headers = [
  ...(missing ? [] : files(emulation, '.h')),
  ...(missing ? [] : files(join(root, 'kernels-cuda/lib'), '.h')),
  ...files(here, '.h'),
  ...files(join(root, 'backends/cuda/runtime'), '_api.h'),
]

const built = new Map<string, Promise<string>>()

function build(name: string, sources: readonly string[], flags: readonly string[]): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify([flags, root]))
  for (const file of [...headers, ...sources]) hash.update(readFileSync(file)).update('\0')
  const output = join(cache, `${hash.digest('hex').slice(0, 16)}-${name}`)
  const known = built.get(output)
  if (known) return known
  const promise = compile(output, sources, flags)
  built.set(output, promise)
  return promise
}

async function compile(
  output: string,
  sources: readonly string[],
  flags: readonly string[],
): Promise<string> {
  if (existsSync(output)) return output
  mkdirSync(cache, { recursive: true })
  // Another test process may build the same: whoever is last puts equal bytes in place.
  const partial = `${output}.${process.pid}`
  await promisify(execFile)('g++', ['-std=c++20', ...flags, ...sources, '-o', partial, '-ldl', '-lpthread'])
  renameSync(partial, output)
  return output
}

let driverBuild: Promise<string> | undefined

export const driver = (): Promise<string> => {
  driverBuild ??= buildEmulatedDriver().then(() => emulatedDriver())
  return driverBuild
}

/** The driver and kernels as other processors than x86-64 run them: switching stacks by ucontext. */
export const portableFlags = ['-O0', '-DSIMT_UCONTEXT']
export const portableDriver = (): Promise<string> =>
  build('libcuda-emulated.so', files(emulation, '.cpp'), ['-g1', '-fPIC', '-shared', ...portableFlags])

/** A library of the kernels in one `.cu` file. */
export const kernels = (
  file: string,
  sanitizer: Sanitizer = 'none',
  flags: readonly string[] = [],
): Promise<string> =>
  build(
    `${basename(file)}-${sanitizer}.so`,
    [file],
    [
      ...['-O2', '-g1', '-fPIC', '-shared', '-ffp-contract=off', ...sanitizerFlags[sanitizer], ...flags],
      ...['-I', emulation, '-I', join(root, 'kernels-cuda'), '-x', 'c++'],
    ],
  )

/** A program of this folder: the script host, or checks that call the driver themselves. */
export const program = (file: string, sanitizer: Sanitizer = 'none'): Promise<string> =>
  build(`${basename(file)}-${sanitizer}`, [join(here, file)], ['-O1', '-g1', ...sanitizerFlags[sanitizer]])

/** The environment without settings of the emulated device that a whole run of tests may have. */
const environment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !name.startsWith('EXACTMAP_EMULATED_')),
)

export interface Outcome {
  /** What each `read` of the script gave. */
  readonly reads: Buffer[]
  readonly errors: { readonly code: number; readonly text: string }[]
  /** What a sanitizer printed before it ended the process. */
  readonly report: string
}

/** Runs a script (see host.cpp) on a fresh emulated device. */
export async function run(
  script: readonly string[],
  {
    sanitizer = 'none',
    env = {},
    on,
  }: { sanitizer?: Sanitizer; env?: Record<string, string>; on?: string } = {},
): Promise<Outcome> {
  const { status, signal, stdout, stderr } = spawnSync(
    await program('host.cpp', sanitizer),
    [on ?? (await driver())],
    {
      input: script.join('\n'),
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
      timeout: 50_000,
      env: { ...environment, EXACTMAP_EMULATED_THREADS: '1', ASAN_OPTIONS: 'detect_leaks=0', ...env },
    },
  )
  const lines = stdout.trimEnd().split('\n')
  const finished = lines.at(-1) === 'end'
  if (!finished && !/Sanitizer|runtime error/.test(stderr))
    throw new Error(`the script host ended with ${signal ?? status}:\n${stdout}\n${stderr}`)
  return {
    reads: lines.filter((line) => /^[0-9a-f]+$/.test(line)).map((line) => Buffer.from(line, 'hex')),
    errors: lines.flatMap((line) => {
      const found = /^error (\d+) (.*)$/.exec(line)
      return found ? [{ code: Number(found[1]), text: found[2]! }] : []
    }),
    report: finished ? '' : stderr,
  }
}

/** Runs a primitive in one order of threads; what its buffers hold then, as numbers of the kinds expected. */
export async function runPrimitive(
  one: Primitive,
  target: CudaTarget,
  order: string,
): Promise<Record<string, Float32Array | Uint32Array>> {
  const library = await kernels(join(here, `${one.file}.cu`))
  const { reads, errors } = await run([`library ${library}`, `order ${order}`, ...scriptOf(one, target)])
  if (errors.length > 0) throw new Error(errors.map(({ text }) => text).join('\n'))
  return Object.fromEntries(
    Object.entries(one.expected).map(([name, data], i) => [
      name,
      data instanceof Float32Array ? floats(reads[i]!) : words(reads[i]!),
    ]),
  )
}

export const floats = (bytes: Buffer): Float32Array =>
  new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))
export const words = (bytes: Buffer): Uint32Array =>
  new Uint32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))
export const hex = (data: Float32Array | Uint32Array | Uint16Array): string =>
  Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('hex')

export const ORDERS = ['forward', 'reverse', 'shuffle:1', 'shuffle:2', 'shuffle:3'] as const

/** Says once why the tests of a file are skipped. */
export function printMissing(): void {
  if (missing) console.log(`emulation tests skipped: ${missing}`)
}

/** What a test host needs beside a program: run it with the driver's path. */
export async function runProgram(
  file: string,
  check: string,
  env: Record<string, string> = {},
): Promise<string> {
  return execFileSync(await program(file), [await driver(), check], {
    encoding: 'utf8',
    env: { ...environment, ...env },
    timeout: 50_000,
  })
}
