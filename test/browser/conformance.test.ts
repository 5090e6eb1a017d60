import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build } from 'esbuild'
import { type BrowserContext, chromium, type Page as Tab } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'
import { allOps } from '../../src/ops/index.ts'
import { storedCases } from '../../src/verify/store.ts'
import { buildDist } from '../helpers/build_dist.ts'
import { quickWebGpu } from '../helpers/webgpu.ts'
import type { Page } from './page.ts'
import { tinyModelTokens } from './tiny_model.ts'

// Every kernel text, by stored vectors, and a small model in a real browser: Debian's chromium with its SwiftShader.
const CHROMIUM = process.env.EXACTMAP_CHROMIUM ?? '/usr/bin/chromium'
const root = packageRoot()
const vectors = join(root, 'test', 'vectors')
const missing = existsSync(CHROMIUM) ? '' : `${CHROMIUM} is not installed; EXACTMAP_CHROMIUM may name another`

/** The bundle of a page: fails where anything in it needs Node. */
const bundle = (entry: string) =>
  build({
    entryPoints: [join(root, entry)],
    bundle: true,
    write: false,
    metafile: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    logLevel: 'silent',
  })

describe('the browser entry', () => {
  it('bundles for browsers: nothing in it needs Node', async () => {
    const { metafile } = await bundle('src/browser.ts')
    const inputs = Object.keys(metafile.inputs)
    expect(inputs.some((file) => file.endsWith('backends/webgpu/browser.ts'))).toBe(true)
    expect(inputs.filter((file) => file.includes('webgpu/node/'))).toEqual([])
    const imports = Object.values(metafile.outputs).flatMap((output) => output.imports)
    expect(imports.filter((i) => i.external)).toEqual([])
  })

  it('is what that check would catch: the Node entry does not bundle', async () => {
    await expect(bundle('src/index.ts')).rejects.toThrow(/Could not resolve "node:/)
  })
})

describe('chromium', (): void => {
  let server: Server
  let browser: BrowserContext
  let tab: Tab
  let profile: string

  beforeAll(async () => {
    if (missing) return
    const script = (await bundle('test/browser/page.ts')).outputFiles[0]!.contents
    buildDist()
    const kernels = readFileSync(join(root, 'dist', 'kernels.json'))
    server = createServer(({ url }, response) => {
      const send = (type: string, body: string | Uint8Array) =>
        response.setHeader('content-type', type).end(body)
      const path = url ?? ''
      if (path === '/') send('text/html', '<!doctype html><script type="module" src="page.js"></script>')
      else if (path === '/page.js') send('text/javascript', script)
      else if (path === '/kernels.json') send('application/json', kernels)
      else if (path === '/broken.json') send('application/json', '{"rms_norm": 5}')
      else if (/^\/[a-z0-9_]+\/[a-zA-Z0-9_]+\.safetensors$/.test(path))
        send('application/octet-stream', readFileSync(join(vectors, path)))
      else response.writeHead(404).end()
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    profile = mkdtempSync(join(tmpdir(), 'exactmap-chromium-'))
    browser = await chromium.launchPersistentContext(profile, {
      executablePath: CHROMIUM,
      headless: true,
      args: [
        '--no-sandbox',
        '--enable-unsafe-webgpu',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
        '--no-first-run',
      ],
    })
    tab = await browser.newPage()
    const problem = new Promise<never>((_, reject) => tab.on('pageerror', reject))
    await tab.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
    await Promise.race([tab.waitForFunction(() => 'exactmap' in globalThis), problem])
    console.log(`chromium ${browser.browser()?.version()}: ${await call('info')}`)
  }, 180_000)

  afterAll(async () => {
    await browser?.close()
    server?.close()
    if (profile) rmSync(profile, { recursive: true, force: true })
  })

  /** A field of the page's object, or what a method of it gives. */
  const call = <K extends keyof Page>(name: K, ...args: unknown[]) =>
    tab.evaluate(
      ([key, given]) => {
        const field = (globalThis as unknown as { exactmap: Record<string, unknown> }).exactmap[key]
        return typeof field === 'function' ? field(...given) : field
      },
      [name, args] as const,
    ) as Promise<Page[K] extends (...args: never) => Promise<infer R> ? R : Page[K]>

  /** A test that is skipped with its reason where there is no chromium. */
  const inPage = (name: string, body: () => Promise<void>): void =>
    it(name, async ({ skip }) => {
      if (missing) skip(missing)
      await body()
    })

  inPage('knows every op', async () => {
    expect(await call('ops')).toEqual(allOps().map((op) => op.name))
  })

  for (const { name } of allOps())
    inPage(`${name}/`, async () => {
      const wrong: string[] = []
      const cases = storedCases(vectors, name)
      for (const one of cases) wrong.push(await call('check', `${name}/${one}.safetensors`))
      expect(cases.length).toBeGreaterThan(0)
      expect(wrong.filter((text) => text !== '')).toEqual([])
    })

  inPage('has run every op', async () => {
    const ran = await call('ran')
    const stored = allOps().reduce((sum, { name }) => sum + storedCases(vectors, name).length, 0)
    console.log(
      `${ran[0]} of ${stored} vectors, ${ran[1]} without optional features: one for every kernel text`,
    )
    expect(Math.min(...ran)).toBeGreaterThanOrEqual(allOps().length)
  })

  inPage('decodes a small model to the tokens that Node gets', async () => {
    const device = await quickWebGpu()
    const expected = await tinyModelTokens(device, 32)
    device.destroy()
    expect(new Set(expected).size).toBeGreaterThan(4)
    expect(await call('tokens', 32)).toEqual(expected)
  })

  inPage('says what is wrong with the kernels it is given', async () => {
    expect(await call('openError', 'nowhere.json')).toBe('io')
    expect(await call('openError', 'broken.json')).toBe('invalid_format')
    expect(await call('openError', 'page.js')).toBe('invalid_format')
  })
})
