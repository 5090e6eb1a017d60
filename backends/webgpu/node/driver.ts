import { isMainThread } from 'node:worker_threads'
import { check, ExactmapError } from '../../../src/errors.ts'
import { fasterThan, lavapipeIcd, missingGpuHint } from './advice.ts'
import {
  findSwiftShaderArchive,
  preloadLoader,
  SWIFTSHADER_PACKAGE,
  unpackSwiftShader,
  withOnlyDriver,
} from './swiftshader.ts'

/** A kind of driver; `native` is whatever the platform's own graphics API offers (Metal, D3D12). */
export type DriverKind = 'gpu' | 'lavapipe' | 'swiftshader' | 'native'

/** What became of one driver: taken, not there, or there but of no use. */
export interface DriverAttempt {
  readonly name: DriverKind
  readonly result: 'chosen' | 'absent' | 'refused'
  readonly detail: string
}

/** Which driver runs the kernels and why. */
export interface DriverChoice {
  readonly name: string
  readonly kind: DriverKind
  readonly deviceName: string
  readonly driverDescription: string
  readonly reason: string
  readonly tried: readonly DriverAttempt[]
  /** What would be faster on this machine and how to get it. */
  readonly faster?: string
}

export interface OpenedAdapter {
  readonly gpu: GPU
  readonly adapter: GPUAdapter
  readonly choice: DriverChoice
}

type Found = { gpu: GPU; adapter: GPUAdapter } | { result: 'absent' | 'refused'; detail: string }

/** Dawn frees what is collected while its device still lives, which crashes the process: keep everything. */
const kept: unknown[] = []

/** The drivers a platform has, in the order in which `auto` tries them. */
export function driverOrder(platform: string, arch: string): readonly DriverKind[] {
  if (platform !== 'linux') return ['native']
  return arch === 'x64' ? ['gpu', 'lavapipe', 'swiftshader'] : ['gpu', 'lavapipe']
}

/**
 * Opens a WebGPU adapter of Node's `webgpu` package (Dawn) and puts WebGPU's globals (GPUBufferUsage, ...) in place.
 *
 * On Linux a real GPU is taken, else the system's Mesa lavapipe if Dawn accepts it (Mesa 23 or newer), else
 * SwiftShader from npm, which needs neither root nor a system Vulkan library. A driver that crashes the process
 * takes it along; `exactmap doctor` tries each in a process of its own. Cost: tens of milliseconds (25 with lavapipe,
 * 15 with SwiftShader, on two idle cores), and once per user some 150 more to unpack SwiftShader.
 *
 * @param options.driver `gpu`, `lavapipe`, `swiftshader` or `native`, as far as the platform has it; without it or
 *   with `auto` the environment variable EXACTMAP_DRIVER decides, and without that the order above
 * @throws invalid_argument for a name the platform does not have, no_device when no driver gives an adapter
 */
export async function openAdapter(options: { driver?: string } = {}): Promise<OpenedAdapter> {
  const named = options.driver !== undefined && options.driver !== 'auto'
  const asked = named ? options.driver! : process.env.EXACTMAP_DRIVER || 'auto'
  const asker = named ? 'driver' : 'EXACTMAP_DRIVER'
  const order = driverOrder(process.platform, process.arch)
  check(
    asked === 'auto' || order.some((name) => name === asked),
    'invalid_argument',
    `expected ${asker} to be auto, ${order.join(', ')} on ${process.platform}-${process.arch}, got '${asked}'`,
  )
  const candidates = asked === 'auto' ? order : order.filter((name) => name === asked)
  const find = driverFinder()
  const tried: DriverAttempt[] = []
  for (const name of candidates) {
    const found = await find(name)
    if ('adapter' in found) {
      const { info } = found.adapter
      const description = info.description || info.device
      tried.push({ name, result: 'chosen', detail: description })
      const faster = fasterThan(name)
      const choice: DriverChoice = {
        name: `${name} (${description})`,
        kind: name,
        deviceName: info.device,
        driverDescription: description,
        reason: asked === 'auto' ? reason(name, tried) : `${asker} asks for ${asked}`,
        tried,
        ...(faster ? { faster } : {}),
      }
      return { ...found, choice }
    }
    tried.push({ name, ...found })
  }
  const results = tried.map((t) => `${t.name} is ${t.result} (${t.detail})`).join('; ')
  throw new ExactmapError('no_device', `expected a WebGPU driver, but ${results}. ${remedy(asked)}`)
}

function reason(name: DriverKind, tried: readonly DriverAttempt[]): string {
  if (name === 'native') return `${process.platform} has its own driver`
  const before = tried.slice(0, -1).map((t) => `${t.name} is ${t.result}`)
  return before.length === 0 ? 'a real GPU goes first' : `${before.join(' and ')}; ${name} is next`
}

function remedy(asked: string): string {
  if (asked !== 'auto') return `Leave the driver to 'auto', or run 'exactmap doctor' to see what works`
  const install = fasterThan('swiftshader')
  return install
    ? `Run 'exactmap doctor' for details. To get one: ${install}`
    : `Run 'exactmap doctor' for details`
}

/** A function that asks Dawn for one kind of driver. The system's drivers are listed at most once. */
function driverFinder(): (name: DriverKind) => Promise<Found> {
  let system: Found | undefined
  return async (name) => {
    if (name === 'native') return request([], 'the platform offers no adapter')
    if (name === 'swiftshader') return findSwiftShader()
    if (name === 'lavapipe') return findLavapipe(system)
    // Dawn sorts by device type and software comes last: the first adapter says whether there is a GPU.
    system = await request(['backend=vulkan'], 'no Vulkan driver that Dawn accepts')
    if ('adapter' in system && !isSoftware(system.adapter.info)) return system
    return { result: 'absent', detail: missingGpuHint() ?? 'the system has no GPU' }
  }
}

/** Lavapipe from the list of the system's drivers, or loaded alone where that was not made or begins otherwise. */
async function findLavapipe(system: Found | undefined): Promise<Found> {
  if (system && 'adapter' in system && isLavapipe(system.adapter.info)) return system
  const icd = lavapipeIcd()
  if (!icd) return { result: 'absent', detail: 'Mesa lavapipe is not installed' }
  const toggles = ['backend=vulkan', 'adapter=llvmpipe']
  const found = await request(toggles, 'Dawn refuses it', (ask) => withOnlyDriver(icd, ask))
  if ('adapter' in found) return found
  return { result: 'refused', detail: `it is installed, but ${found.detail}; it needs Mesa 23 or newer` }
}

function isSoftware(info: GPUAdapterInfo): boolean {
  return info.isFallbackAdapter || isLavapipe(info)
}

function isLavapipe(info: GPUAdapterInfo): boolean {
  return `${info.device} ${info.description}`.includes('llvmpipe')
}

async function findSwiftShader(): Promise<Found> {
  // A worker's process.env is a copy that the Vulkan loader does not see.
  if (!isMainThread) return { result: 'refused', detail: 'SwiftShader can be set up in the main thread only' }
  const archive = findSwiftShaderArchive()
  if (!archive) return { result: 'absent', detail: `npm install ${SWIFTSHADER_PACKAGE} adds it` }
  try {
    const { loader, icd } = unpackSwiftShader(archive)
    preloadLoader(loader)
    const none = 'Dawn found no adapter in it'
    return await request(['backend=vulkan', 'adapter=SwiftShader'], none, (ask) => withOnlyDriver(icd, ask))
  } catch (error) {
    return { result: 'refused', detail: (error as Error).message }
  }
}

/** One dawn instance with its adapter. `around` wraps the synchronous call that loads the driver. */
async function request(
  toggles: string[],
  none: string,
  around: (ask: () => Promise<GPUAdapter | null>) => Promise<GPUAdapter | null> = (ask) => ask(),
): Promise<Found> {
  try {
    const { create, globals } = await import('webgpu')
    Object.assign(globalThis, globals)
    const gpu = create(toggles)
    kept.push(gpu)
    const adapter = await around(() => gpu.requestAdapter({ powerPreference: 'high-performance' }))
    if (!adapter) return { result: 'absent', detail: none }
    kept.push(adapter)
    return { gpu, adapter }
  } catch (error) {
    return { result: 'absent', detail: `${none} (${(error as Error).message.split('\n')[0]})` }
  }
}
