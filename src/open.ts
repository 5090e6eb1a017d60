import type { Device } from '../backends/backend.ts'
import { openCuda, openCudaEmulated } from '../backends/cuda/open.ts'
import { ReferenceDevice } from '../backends/reference/device.ts'
import { openNodeWebGpu } from '../backends/webgpu/node/open.ts'
import { check, ExactmapError } from './errors.ts'

/** Names `open` accepts; `cuda:1` and so on name further GPUs. */
export const deviceNames = ['auto', 'webgpu', 'cuda', 'cuda-emulated', 'reference'] as const

/**
 * Opens a device: 'auto' and 'webgpu' take the best WebGPU driver of this machine (see `exactmap doctor`), 'cuda' and
 * 'cuda:<n>' an NVIDIA GPU, 'cuda-emulated' the CUDA runtime and kernels on the CPU, 'reference' executes programs with
 * the float64 references.
 *
 * @throws ExactmapError `no_device` when no driver works, `invalid_argument` for an unknown name or a driver that is not
 *   WebGPU's
 */
export async function open(name = 'auto', options: { readonly driver?: string } = {}): Promise<Device> {
  if (name === 'auto' || name === 'webgpu') return openNodeWebGpu(options)
  check(
    options.driver === undefined,
    'invalid_argument',
    `driver '${options.driver}' was asked for: only webgpu has a choice of drivers, ${name} has not`,
  )
  if (name === 'reference') return new ReferenceDevice()
  if (name === 'cuda-emulated') return openCudaEmulated()
  const gpu = /^cuda(?::(\d{1,3}))?$/.exec(name)
  if (gpu) return openCuda(Number(gpu[1] ?? 0))
  throw new ExactmapError(
    'invalid_argument',
    `no backend is named '${name}'; known: ${deviceNames.join(', ')}, cuda:<number>`,
  )
}
