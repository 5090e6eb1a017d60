import { createHash, randomUUID } from 'node:crypto'
import { existsSync, lstatSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { constants, homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { brotliDecompressSync } from 'node:zlib'
import { ExactmapError } from '../../../src/errors.ts'
import { packageRoot } from '../../package_root.ts'

/** The npm package (linux x64 binaries inside) that carries SwiftShader. */
export const SWIFTSHADER_PACKAGE = '@sparticuz/chromium@147.0.0'
const LIBRARY = 'libvk_swiftshader.so'
const LOADER = 'libvulkan.so.1'
const ICD = 'exactmap_icd.json'

/** dlopen's RTLD_NODELETE; Node has no name for it. */
const RTLD_NODELETE = 0x1000

/** An unpacked SwiftShader: its own Vulkan loader and the file that tells a loader where the driver is. */
export interface SwiftShader {
  readonly loader: string
  readonly icd: string
}

/**
 * SwiftShader's archive: a packed exactmap carries it, a checkout on linux x64 has it in the npm package; undefined
 * where neither is there.
 */
export function findSwiftShaderArchive(): string | undefined {
  const packed = join(packageRoot(), 'dist', 'swiftshader', 'swiftshader.tar.br')
  if (existsSync(packed)) return packed
  try {
    // The package exports only its entry, <package>/build/cjs/index.cjs.
    const entry = createRequire(import.meta.url).resolve('@sparticuz/chromium')
    const archive = join(entry, '../../../bin/swiftshader.tar.br')
    return existsSync(archive) ? archive : undefined
  } catch {
    return undefined
  }
}

/**
 * Unpacks the archive once per content into a folder of this user and returns the paths.
 * Two processes may do it at the same time: each fills its own folder and the first rename wins.
 *
 * @param cacheRoots folders to try in order; the first that is writable and belongs to this user is used
 * @throws invalid_format when the archive is broken or lacks a file, io when no folder can be written
 */
export function unpackSwiftShader(archive: string, cacheRoots = defaultCacheRoots()): SwiftShader {
  const bytes = readFileSync(archive)
  const name = `swiftshader-${createHash('sha256').update(bytes).digest('hex').slice(0, 16)}`
  let failure: unknown
  for (const root of cacheRoots) {
    const folder = join(root, name)
    const paths = { loader: join(folder, LOADER), icd: join(folder, ICD) }
    try {
      mkdirSync(root, { recursive: true, mode: 0o700 })
      // A library loaded from a folder that somebody else can write to would run their code as this user.
      if (!ownedByUser(root)) throw new Error(`${root} belongs to another user or is writable by everybody`)
      if (existsSync(paths.icd)) return paths
      fill(folder, bytes, archive)
      return paths
    } catch (cause) {
      if (cause instanceof ExactmapError) throw cause
      failure = cause
    }
  }
  throw new ExactmapError(
    'io',
    `SwiftShader must be unpacked once, but none of ${cacheRoots.join(', ')} could be written (${(failure as Error)?.message}); set XDG_CACHE_HOME to a folder you own`,
    {},
    { cause: failure },
  )
}

function fill(folder: string, archive: Uint8Array, from: string): void {
  const files = untar(decompress(archive, from))
  const draft = `${folder}.${randomUUID()}`
  mkdirSync(draft, { mode: 0o700 })
  try {
    for (const file of [LIBRARY, LOADER]) {
      const content = files.get(file)
      if (!content)
        throw new ExactmapError(
          'invalid_format',
          `expected ${file} in the archive, found ${[...files.keys()].join(', ') || 'nothing'}; reinstall ${SWIFTSHADER_PACKAGE}`,
          { file: from },
        )
      writeFileSync(join(draft, file), content, { mode: 0o755 })
    }
    // A loader resolves a relative library_path against the ICD file only in some versions: name it in full.
    const icd = {
      file_format_version: '1.0.0',
      ICD: { library_path: join(folder, LIBRARY), api_version: '1.1.0' },
    }
    writeFileSync(join(draft, ICD), JSON.stringify(icd))
    renameSync(draft, folder)
  } catch (cause) {
    rmSync(draft, { recursive: true, force: true })
    // Another process was faster and its folder has the same bytes.
    if (!existsSync(join(folder, ICD))) throw cause
  }
}

function decompress(archive: Uint8Array, from: string): Uint8Array {
  try {
    return brotliDecompressSync(archive)
  } catch (cause) {
    const message = `expected brotli, got ${archive.length} bytes that are not (${(cause as Error).message}); reinstall ${SWIFTSHADER_PACKAGE}`
    throw new ExactmapError('invalid_format', message, { file: from }, { cause })
  }
}

/** The regular files of a tar archive by base name. Enough of ustar for archives of short names. */
export function untar(tar: Uint8Array): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>()
  const text = (from: number, length: number) =>
    new TextDecoder().decode(tar.subarray(from, from + length)).replace(/\0.*$/s, '')
  for (let at = 0; at + 512 <= tar.length && tar[at] !== 0; ) {
    const size = Number.parseInt(text(at + 124, 12).trim(), 8)
    if (!(size >= 0) || at + 512 + size > tar.length)
      throw new ExactmapError('invalid_format', `tar entry at byte ${at} has no valid size or is cut off`)
    const type = text(at + 156, 1)
    if (type === '0' || type === '')
      files.set(text(at, 100).split('/').at(-1)!, tar.subarray(at + 512, at + 512 + size))
    at += 512 + Math.ceil(size / 512) * 512
  }
  return files
}

function defaultCacheRoots(): string[] {
  const user = process.env.XDG_CACHE_HOME || join(homedir(), '.cache')
  return [join(user, 'exactmap'), join(tmpdir(), `exactmap-${process.getuid?.() ?? 'cache'}`)]
}

function ownedByUser(folder: string): boolean {
  const stat = lstatSync(folder)
  return stat.isDirectory() && stat.uid === process.getuid?.() && (stat.mode & 0o002) === 0
}

const preloaded = new Set<string>()

/**
 * Loads SwiftShader's Vulkan loader for the whole process, so that Dawn's own search for `libvulkan.so.1`
 * succeeds where the system has none.
 */
export function preloadLoader(path: string): void {
  if (preloaded.has(path)) return
  try {
    const flags = constants.dlopen.RTLD_NOW | constants.dlopen.RTLD_GLOBAL | RTLD_NODELETE
    process.dlopen({ exports: {} }, path, flags)
  } catch (error) {
    // Node looks for an addon in every library it loads; by then this one is in, and that is all we want.
    if (!String((error as Error).message).includes('did not self-register')) throw error
  }
  preloaded.add(path)
}

/**
 * Runs `body` with a Vulkan loader that sees only the driver of `icd` and puts the environment back before
 * anything else can run: a loader reads it when an instance is made, which Dawn does inside requestAdapter.
 */
export function withOnlyDriver<T>(icd: string, body: () => T): T {
  // Old loaders know the first name, new ones prefer the second.
  const names = ['VK_ICD_FILENAMES', 'VK_DRIVER_FILES'] as const
  const before = names.map((name) => process.env[name])
  for (const name of names) process.env[name] = icd
  try {
    return body()
  } finally {
    names.forEach((name, i) => {
      if (before[i] === undefined) delete process.env[name]
      else process.env[name] = before[i]
    })
  }
}
