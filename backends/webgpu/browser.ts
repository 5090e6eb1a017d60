import { ExactmapError } from '../../src/errors.ts'
import type { Device } from '../backend.ts'
import { WebGpuDevice } from './device.ts'
import type { KernelLibrary } from './link.ts'

export interface BrowserOpenOptions {
  /** Where `kernels.json` is served: the build writes it to `dist/kernels.json` of the package. */
  readonly kernels: URL | string
  /** Features not to use although the adapter has them. */
  readonly without?: readonly string[]
}

/**
 * Opens the browser's WebGPU device. Needs a secure context (https, or http on localhost).
 *
 * @throws ExactmapError `no_device` (no WebGPU, or no adapter), `io` (kernels can't be fetched), `invalid_format`
 *   (what is served is no kernel library)
 */
export async function openBrowserWebGpu({ kernels, without = [] }: BrowserOpenOptions): Promise<Device> {
  if (!navigator.gpu)
    throw new ExactmapError(
      'no_device',
      globalThis.isSecureContext
        ? 'expected navigator.gpu, this browser has no WebGPU; update it or enable WebGPU in its settings'
        : 'browsers have WebGPU in secure contexts only; serve the page over https or from localhost',
    )
  const [adapter, library] = await Promise.all([
    navigator.gpu.requestAdapter({ powerPreference: 'high-performance' }),
    fetchKernels(kernels),
  ])
  if (!adapter)
    throw new ExactmapError(
      'no_device',
      'the browser has WebGPU but no adapter; update the graphics driver or look at chrome://gpu for the reason',
    )
  const { vendor, architecture, description } = adapter.info
  const driver = description || [vendor, architecture].filter(Boolean).join(' ')
  return WebGpuDevice.open({ adapter, library, driver, without })
}

/** One request for all kernels: a page can't list a folder, and a request for each of some eighty files is slow. */
async function fetchKernels(url: URL | string): Promise<KernelLibrary> {
  const response = await fetch(url).catch((cause) => {
    throw new ExactmapError(
      'io',
      `fetching the kernels failed: ${cause.message}`,
      { file: String(url) },
      { cause },
    )
  })
  if (!response.ok)
    throw new ExactmapError(
      'io',
      `fetching the kernels gave status ${response.status}; serve dist/kernels.json of the package`,
      { file: String(url) },
    )
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
