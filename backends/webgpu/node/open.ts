import { totalmem } from 'node:os'
import { WebGpuDevice } from '../device.ts'
import { openAdapter } from './driver.ts'
import { readKernelLibrary } from './library.ts'
import { restWhile } from './rest.ts'
import { findTuning } from './tuning.ts'

export interface NodeOpenOptions {
  /** 'auto' (default), 'gpu', 'lavapipe' or 'swiftshader'; EXACTMAP_DRIVER overrides 'auto'. */
  readonly driver?: string
  /** Bytes the arenas of a program may take; default the machine's memory on a software driver, else unknown. */
  readonly memory?: number
  /** Features not to use although the adapter has them. */
  readonly without?: readonly string[]
}

/**
 * Opens a WebGPU device in Node through dawn-node, with the tuning of its adapter (`findTuning`).
 *
 * @throws what `openAdapter` and `findTuning` throw
 */
export async function openNodeWebGpu(options: NodeOpenOptions = {}): Promise<WebGpuDevice> {
  const { driver, without = [] } = options
  const { gpu, adapter, choice } = await openAdapter(driver === undefined ? {} : { driver })
  // A software driver's memory and cores are the machine's; how much memory a GPU has, nobody says.
  const software = choice.kind === 'lavapipe' || choice.kind === 'swiftshader'
  const device = await WebGpuDevice.open({
    adapter,
    keep: gpu,
    library: readKernelLibrary(),
    driver: choice.name,
    without,
    ...(software ? { memory: totalmem(), wait: restWhile } : {}),
    ...(options.memory === undefined ? {} : { memory: options.memory }),
  })
  try {
    device.useTuning(findTuning(device.signature))
  } catch (error) {
    device.destroy()
    throw error
  }
  return device
}
