import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { check, ExactmapError } from '../../../src/errors.ts'
import { writeFileAtomic } from '../../../src/formats/node_file.ts'
import { hashText } from '../../../src/program/hash.ts'
import { packageRoot } from '../../package_root.ts'
import { addonFile } from '../addon.ts'
import { cudaDist } from './places.ts'
import { installHint, knownVersion, runTool } from './tools.ts'

/** The standalone executable. */
export const executableFile = (): string => join(cudaDist(), 'exactmap-cuda')

const SOURCES = ['CMakeLists.txt', 'package.json', 'runtime', 'addon', 'executable'] as const

/**
 * Builds addon and executable with cmake-js unless they were built from these sources, as those of the published package
 * are. About twenty seconds.
 *
 * @returns the files
 * @throws ExactmapError `not_found` without CMake or a C++ compiler, `kernel_compile` with the compiler's words
 */
export async function buildNative(): Promise<string[]> {
  const files = [addonFile(), executableFile()]
  const folder = join(packageRoot(), 'backends', 'cuda')
  const hash = hashText(await sourceText(folder))
  const record = join(cudaDist(), 'native.json')
  const known = await readFile(record, 'utf8').catch(() => '{}')
  if (JSON.parse(known).sources === hash && files.every(existsSync)) return files
  for (const tool of ['cmake', 'g++'])
    check(await knownVersion(tool), 'not_found', `runtime: ${tool} is not installed; ${installHint(tool)}`)
  const output = join(cudaDist(), 'build')
  const args = [cmakeJs(), 'compile', '-d', folder, '-O', output, '--log-level', 'error']
  const ran = await runTool(process.execPath, args, packageRoot())
  if (ran?.code !== 0)
    throw new ExactmapError('kernel_compile', `the CUDA runtime did not build:\n${ran?.out}\n${ran?.err}`, {
      file: folder,
    })
  await writeFileAtomic(record, [new TextEncoder().encode(`${JSON.stringify({ sources: hash })}\n`)])
  return files
}

function cmakeJs(): string {
  try {
    return join(createRequire(import.meta.url).resolve('cmake-js/package.json'), '..', 'bin', 'cmake-js')
  } catch (cause) {
    throw new ExactmapError(
      'not_found',
      'runtime: cmake-js is not installed; npm install cmake-js@8 node-addon-api@8',
      {},
      { cause },
    )
  }
}

async function sourceText(folder: string): Promise<string> {
  const texts: string[] = []
  for (const entry of SOURCES) {
    const path = join(folder, entry)
    const files = entry.includes('.') ? [path] : (await readdir(path)).sort().map((f) => join(path, f))
    for (const file of files) texts.push(file.slice(folder.length), await readFile(file, 'utf8'))
  }
  return texts.join('\n')
}
