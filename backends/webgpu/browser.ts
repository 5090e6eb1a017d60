import { ExactmapError } from '../../src/errors.ts'
import type { Device } from '../backend.ts'
import { WebGpuDevice } from './device.ts'
import type { KernelLibrary } from './link.ts'
import { parseTuning, type TuningFile } from './tuning.ts'

export interface BrowserOpenOptions {
  /** Where `kernels.json` is served: the build writes it to `dist/kernels.json` of the package. */
  readonly kernels: URL | string
  /** Where a tuning file is served that `exactmap tune` or you made for this adapter; by default there is none. */
  readonly tuning?: URL | string
  /** Features not to use although the adapter has them. */
  readonly without?: readonly string[]
}

/**
 * Opens the browser's WebGPU device. Needs a secure context (https, or http on localhost).
 *
 * @throws ExactmapError `no_device` (no WebGPU, or no adapter), `io` (kernels or tuning can't be fetched),
 *   `invalid_format` (what is served is no kernel library or no tuning)
 */
export async function openBrowserWebGpu(options: BrowserOpenOptions): Promise<Device> {
  const { kernels, without = [] } = options
  if (!navigator.gpu)
    throw new ExactmapError(
      'no_device',
      globalThis.isSecureContext
        ? 'expected navigator.gpu, this browser has no WebGPU; update it or enable WebGPU in its settings'
        : 'browsers have WebGPU in secure contexts only; serve the page over https or from localhost',
    )
  const [adapter, library, tuning] = await Promise.all([
    navigator.gpu.requestAdapter({ powerPreference: 'high-performance' }),
    fetchKernels(kernels),
    options.tuning && fetchTuning(options.tuning),
  ])
  if (!adapter)
    throw new ExactmapError(
      'no_device',
      'the browser has WebGPU but no adapter; update the graphics driver or look at chrome://gpu for the reason',
    )
  const { vendor, architecture, description } = adapter.info
  const driver = description || [vendor, architecture].filter(Boolean).join(' ')
  const device = await WebGpuDevice.open({ adapter, library, driver, without })
  if (tuning) device.useTuning(tuning)
  return device
}

/** One request for all kernels: a page can't list a folder, and a request for each of some eighty files is slow. */
async function fetchKernels(url: URL | string): Promise<KernelLibrary> {
  const response = await fetched(url, 'kernels', 'serve dist/kernels.json of the package')
  const modules: unknown = await response.json().catch(() => undefined)
  const entries = Object.entries(modules ?? {})
  if (entries.length === 0 || entries.some(([, text]) => typeof text !== 'string'))
    throw new ExactmapError(
      'invalid_format',
      'expected a JSON object from kernel module to its WGSL text, as dist/kernels.json of the package is',
      { file: String(url) },
    )
  return new Map(entries as [string, string][])
}

async function fetchTuning(url: URL | string): Promise<TuningFile> {
  const response = await fetched(url, 'tuning', 'serve the file that exactmap tune wrote')
  return parseTuning(new Uint8Array(await response.arrayBuffer()), String(url))
}

async function fetched(url: URL | string, what: string, advice: string): Promise<Response> {
  const file = String(url)
  const response = await fetch(url).catch((cause) => {
    throw new ExactmapError('io', `fetching the ${what} failed: ${cause.message}`, { file }, { cause })
  })
  if (!response.ok)
    throw new ExactmapError('io', `fetching the ${what} gave status ${response.status}; ${advice}`, { file })
  return response
}
