import { WebGpuDevice } from '../device.ts'
import { openAdapter } from './driver.ts'
import { readKernelLibrary } from './library.ts'

export interface NodeOpenOptions {
  /** 'auto' (default), 'gpu', 'lavapipe' or 'swiftshader'; EXACTMAP_DRIVER overrides 'auto'. */
  readonly driver?: string
  /** Features not to use although the adapter has them. */
  readonly without?: readonly string[]
}

/** Opens a WebGPU device in Node through dawn-node. */
export async function openNodeWebGpu({ driver, without = [] }: NodeOpenOptions = {}): Promise<WebGpuDevice> {
  const { gpu, adapter, choice } = await openAdapter(driver === undefined ? {} : { driver })
  return WebGpuDevice.open({ adapter, keep: gpu, library: readKernelLibrary(), driver: choice.name, without })
}
