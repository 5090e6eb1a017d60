import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { check, ExactmapError } from '../../src/errors.ts'
import { writeFileAtomic } from '../../src/formats/node_file.ts'
import { hashText } from '../../src/program/hash.ts'
import { packageRoot } from '../package_root.ts'
import { installHint, knownVersion, runTool } from './tools.ts'

/** A folder with a CMakeLists.txt, and what it builds. */
export interface NativePart {
  /** Name in messages, e.g. `the CUDA runtime`. */
  readonly name: string
  /** Folder of the sources, and those of its entries that what is built depends on. */
  readonly folder: string
  readonly sources: readonly string[]
  /** Folder for what is built, its record and intermediate files. */
  readonly output: string
  readonly files: readonly string[]
  readonly tools: readonly string[]
  /** Anything else that what is built depends on, e.g. the version of a library. */
  readonly environment?: string
}

/**
 * Builds a part with cmake-js unless it was built from these sources, as those of the published package are. About twenty
 * seconds.
 *
 * @returns the files
 * @throws ExactmapError `not_found` where a tool is missing, `kernel_compile` with the compiler's words
 */
export async function buildWithCmake(part: NativePart): Promise<readonly string[]> {
  const { name, folder, output, files } = part
  const hash = hashText((await sourceText(folder, part.sources)) + (part.environment ?? ''))
  const record = join(output, 'native.json')
  const known = await readFile(record, 'utf8').catch(() => '{}')
  if (JSON.parse(known).sources === hash && files.every(existsSync)) return files
  for (const tool of part.tools)
    check(await knownVersion(tool), 'not_found', `${name}: ${tool} is not installed; ${installHint(tool)}`)
  const args = [cmakeJs(name), 'compile', '-d', folder, '-O', join(output, 'build'), '--log-level', 'error']
  const ran = await runTool(process.execPath, args, packageRoot())
  if (ran?.code !== 0)
    throw new ExactmapError('kernel_compile', `${name} did not build:\n${ran?.out}\n${ran?.err}`, {
      file: folder,
    })
  await mkdir(output, { recursive: true })
  await writeFileAtomic(record, [new TextEncoder().encode(`${JSON.stringify({ sources: hash })}\n`)])
  return files
}

function cmakeJs(name: string): string {
  try {
    return join(createRequire(import.meta.url).resolve('cmake-js/package.json'), '..', 'bin', 'cmake-js')
  } catch (cause) {
    throw new ExactmapError(
      'not_found',
      `${name}: cmake-js is not installed; npm install cmake-js@8 node-addon-api@8`,
      {},
      { cause },
    )
  }
}

async function sourceText(folder: string, sources: readonly string[]): Promise<string> {
  const texts: string[] = []
  for (const entry of sources) {
    const path = join(folder, entry)
    const files = entry.includes('.') ? [path] : (await readdir(path)).sort().map((f) => join(path, f))
    for (const file of files) texts.push(file.slice(folder.length), await readFile(file, 'utf8'))
  }
  return texts.join('\n')
}
