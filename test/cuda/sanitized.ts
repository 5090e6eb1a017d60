import { execFile } from 'node:child_process'
import { readdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { emulatedDriver } from '../../backends/cuda/build/places.ts'
import { packageRoot } from '../../backends/package_root.ts'

// The C runtime and the emulated NCCL, built for AddressSanitizer and UndefinedBehaviorSanitizer.

const FLAGS = [
  '-Wall',
  '-Wextra',
  '-Werror',
  '-g',
  '-O1',
  '-fsanitize=address,undefined',
  '-fno-sanitize-recover=all',
]
const root = packageRoot()

const sources = (folder: string, pattern: RegExp): string[] =>
  readdirSync(join(root, folder))
    .filter((f) => pattern.test(f) && f !== 'check_api.c')
    .map((f) => join(root, folder, f))

/** A program of this folder with the runtime. */
export async function buildWithRuntime(program: string, output: string): Promise<void> {
  const runtime = 'backends/cuda/runtime'
  const files = [...sources(runtime, /\.c$/), join(root, 'test/cuda', program)]
  await promisify(execFile)('cc', [
    ...['-std=gnu11', ...FLAGS, `-I${join(root, runtime)}`, ...files],
    ...['-ldl', '-lpthread', '-o', output],
  ])
}

/** The emulated NCCL in a folder, with the driver it looks for beside itself; gives its path. */
export async function buildNccl(folder: string): Promise<string> {
  const output = join(folder, 'libnccl-emulated.so')
  const files = sources('backends/cuda/emulation/nccl', /\.cpp$/)
  await promisify(execFile)('g++', [
    '-std=c++20',
    ...FLAGS,
    '-fPIC',
    '-shared',
    ...files,
    '-ldl',
    '-o',
    output,
  ])
  symlinkSync(emulatedDriver(), join(folder, 'libcuda-emulated.so'))
  return output
}
