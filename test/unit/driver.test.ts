import { execFile } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { brotliCompressSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { mesaCommand } from '../../backends/webgpu/node/advice.ts'
import { driverOrder, openAdapter } from '../../backends/webgpu/node/driver.ts'
import { unpackSwiftShader, untar, withOnlyDriver } from '../../backends/webgpu/node/swiftshader.ts'

/** A ustar archive of `files`, as `tar` writes it as far as size, type and name go. */
function tar(files: Record<string, string>): Buffer {
  const blocks = Object.entries(files).map(([name, content]) => {
    const header = Buffer.alloc(512)
    header.write(name, 0)
    header.write(`${content.length.toString(8).padStart(11, '0')}\0`, 124)
    header.write('0', 156)
    const body = Buffer.alloc(Math.ceil(content.length / 512) * 512)
    body.write(content)
    return Buffer.concat([header, body])
  })
  return Buffer.concat([...blocks, Buffer.alloc(1024)])
}

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'exactmap-driver-'))
})
afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(folder, { recursive: true, force: true })
})

function archiveOf(files: Record<string, string>): string {
  const path = join(folder, 'archive.tar.br')
  writeFileSync(path, brotliCompressSync(tar(files)))
  return path
}

const whole = { './libvk_swiftshader.so': 'driver'.repeat(100), 'libvulkan.so.1': 'loader', 'other.so': '' }

describe('driver order', () => {
  test('only linux x64 has SwiftShader, only Linux has a choice', () => {
    expect(driverOrder('linux', 'x64')).toEqual(['gpu', 'lavapipe', 'swiftshader'])
    expect(driverOrder('linux', 'arm64')).toEqual(['gpu', 'lavapipe'])
    expect(driverOrder('darwin', 'arm64')).toEqual(['native'])
    expect(driverOrder('win32', 'x64')).toEqual(['native'])
  })

  test('a name that does not exist is refused before any driver is loaded', async () => {
    vi.stubEnv('EXACTMAP_DRIVER', '')
    await expect(openAdapter({ driver: 'turbo' })).rejects.toMatchObject({ code: 'invalid_argument' })
  })

  test('EXACTMAP_DRIVER decides where the caller does not', async () => {
    vi.stubEnv('EXACTMAP_DRIVER', 'turbo')
    await expect(openAdapter()).rejects.toThrow(/EXACTMAP_DRIVER.*'turbo'/)
    await expect(openAdapter({ driver: 'auto' })).rejects.toThrow(/EXACTMAP_DRIVER.*'turbo'/)
    await expect(openAdapter({ driver: 'nitro' })).rejects.toThrow(/expected driver.*'nitro'/)
  })
})

describe('SwiftShader archive', () => {
  test('untar gives every file, with sizes that do not fill a block', () => {
    const files = untar(tar({ a: 'x'.repeat(512), 'dir/b': 'y'.repeat(513), c: '' }))
    expect([...files].map(([name, bytes]) => [name, bytes.length])).toEqual([
      ['a', 512],
      ['b', 513],
      ['c', 0],
    ])
    expect(Buffer.from(files.get('b')!).toString()).toBe('y'.repeat(513))
  })

  test('untar refuses what is cut off', () => {
    const bytes = tar({ a: 'x'.repeat(2000) }).subarray(0, 1024)
    expect(() => untar(bytes)).toThrow(expect.objectContaining({ code: 'invalid_format' }))
  })

  test('is unpacked once; the ICD file names the library in full', () => {
    const archive = archiveOf(whole)
    const root = join(folder, 'cache')
    const first = unpackSwiftShader(archive, [root])
    const library = JSON.parse(readFileSync(first.icd, 'utf8')).ICD.library_path
    expect(readFileSync(library, 'utf8')).toBe(whole['./libvk_swiftshader.so'])
    expect(readFileSync(first.loader, 'utf8')).toBe('loader')
    writeFileSync(first.loader, 'marked')
    expect(unpackSwiftShader(archive, [root])).toEqual(first)
    expect(readFileSync(first.loader, 'utf8')).toBe('marked')
    expect(readdirSync(root)).toHaveLength(1)
  })

  test('other bytes go to another folder', () => {
    const root = join(folder, 'cache')
    const first = unpackSwiftShader(archiveOf(whole), [root])
    const second = unpackSwiftShader(archiveOf({ ...whole, 'libvulkan.so.1': 'newer' }), [root])
    expect(second.icd).not.toBe(first.icd)
    expect(readFileSync(second.loader, 'utf8')).toBe('newer')
  })

  test('an archive without the loader is refused and leaves nothing behind', () => {
    const root = join(folder, 'cache')
    const archive = archiveOf({ 'libvk_swiftshader.so': 'driver' })
    expect(() => unpackSwiftShader(archive, [root])).toThrow(/libvulkan\.so\.1.*found libvk_swiftshader\.so/)
    expect(readdirSync(root)).toEqual([])
  })

  test('an archive that is cut off is refused', () => {
    const archive = archiveOf(whole)
    writeFileSync(archive, readFileSync(archive).subarray(0, 20))
    expect(() => unpackSwiftShader(archive, [join(folder, 'cache')])).toThrow(
      expect.objectContaining({ code: 'invalid_format' }),
    )
  })

  test('goes to the next folder when the first cannot be used', () => {
    const blocked = join(folder, 'file')
    writeFileSync(blocked, '')
    const open = join(folder, 'open')
    mkdirSync(open)
    chmodSync(open, 0o777)
    const good = join(folder, 'good')
    const found = unpackSwiftShader(archiveOf(whole), [join(blocked, 'below'), open, good])
    expect(found.loader.startsWith(good)).toBe(true)
    expect(readdirSync(open)).toEqual([])
    expect(() => unpackSwiftShader(archiveOf(whole), [join(blocked, 'below'), open])).toThrow(
      expect.objectContaining({ code: 'io', message: expect.stringContaining('XDG_CACHE_HOME') }),
    )
  })
})

describe('environment', () => {
  test('shows a loader one driver only and is put back, also after an error', () => {
    vi.stubEnv('VK_ICD_FILENAMES', 'mine')
    vi.stubEnv('VK_DRIVER_FILES', undefined)
    const seen = withOnlyDriver('one', () => [process.env.VK_ICD_FILENAMES, process.env.VK_DRIVER_FILES])
    expect(seen).toEqual(['one', 'one'])
    expect(() =>
      withOnlyDriver('one', () => {
        throw new Error('x')
      }),
    ).toThrow('x')
    expect(process.env.VK_ICD_FILENAMES).toBe('mine')
    expect('VK_DRIVER_FILES' in process.env).toBe(false)
  })
})

describe('advice', () => {
  const debian12 = { ID: 'debian', VERSION_ID: '12' }

  test('Debian 12 repeats its own source entry with the backports suite', async () => {
    const source = join(folder, 'debian.sources')
    writeFileSync(
      source,
      'Types: deb\nURIs: MIRROR\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: KEY\n\nTypes: deb\nURIs: SECURITY\nSuites: bookworm-security\nComponents: main\n',
    )
    expect(await runEntry(mesaCommand(debian12, (path) => path.endsWith('.sources')))).toBe(
      'Types: deb\nURIs: MIRROR\nSuites: bookworm-backports\nComponents: main\nSigned-By: KEY\n\n',
    )
  })

  test('Debian 12 with the older list of sources', async () => {
    writeFileSync(
      join(folder, 'sources.list'),
      'deb MIRROR bookworm main contrib\ndeb SECURITY bookworm-security main\n# deb OLD bookworm main\n',
    )
    expect(await runEntry(mesaCommand(debian12, () => false))).toBe('deb MIRROR bookworm-backports main\n')
  })

  /** Runs the part of the command that writes the entry on the test's folder, without root and apt. */
  async function runEntry(command: string): Promise<string> {
    const [entry, ...apt] = command.replace('as root: ', '').split(' && ')
    expect(apt).toEqual([
      'apt-get update',
      expect.stringMatching(/-t bookworm-backports mesa-vulkan-drivers$/),
    ])
    const local = entry!.replace(/\/etc\/apt\/(sources\.list\.d\/)?/g, `${folder}/`)
    await promisify(execFile)('sh', ['-c', local])
    const written = local.split(' > ')[1]!
    expect(existsSync(written)).toBe(true)
    return readFileSync(written, 'utf8')
  }

  test('other systems', () => {
    const plain = 'as root: apt-get update && apt-get install -y mesa-vulkan-drivers'
    expect(mesaCommand({ ID: 'debian', VERSION_ID: '13' }, () => true)).toBe(plain)
    expect(mesaCommand({ ID: 'ubuntu', VERSION_ID: '24.04' }, () => true)).toBe(plain)
    expect(mesaCommand({ ID: 'ubuntu', VERSION_ID: '20.04' }, () => true)).not.toContain('apt-get')
    expect(mesaCommand({}, () => true)).not.toContain('apt-get')
  })
})
