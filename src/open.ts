import type { Device } from '../backends/backend.ts'
import { ReferenceDevice } from '../backends/reference/device.ts'
import { openNodeWebGpu } from '../backends/webgpu/node/open.ts'
import { ExactmapError } from './errors.ts'

/** Names `open` accepts. */
export const deviceNames = ['auto', 'webgpu', 'reference'] as const

/**
 * Opens a device: 'auto' and 'webgpu' take the best WebGPU driver of this machine (see `exactmap doctor`),
 * 'reference' executes programs with the float64 references on the CPU.
 *
 * @throws ExactmapError `no_device` when no driver works, `invalid_argument` for an unknown name
 */
export async function open(name = 'auto', options: { readonly driver?: string } = {}): Promise<Device> {
  if (name === 'auto' || name === 'webgpu') return openNodeWebGpu(options)
  if (name === 'reference') return new ReferenceDevice()
  throw new ExactmapError(
    'invalid_argument',
    `no backend is named '${name}'; known: ${deviceNames.join(', ')}`,
  )
}
