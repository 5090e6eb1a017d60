import { join } from 'node:path'
import type { Device } from '../../backends/backend.ts'
import { CudaDevice } from '../../backends/cuda/device.ts'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { packageRoot } from '../../backends/package_root.ts'
import { readKernelLibrary } from '../../backends/webgpu/node/library.ts'
import { ExactmapError } from '../errors.ts'

/** Texts of kernel files by name. */
export type KernelLibrary = ReadonlyMap<string, string>

/** Where a device's kernels are written, and how the folder is read. */
export interface KernelFolder {
  readonly folder: string
  read(folder: string): KernelLibrary
}

/**
 * The kernel folder of a device: the package's, or the one given.
 *
 * @throws ExactmapError `invalid_argument` for a device without kernels
 */
export function kernelFolder(device: Device, given?: string): KernelFolder {
  if (!device.useLibrary)
    throw new ExactmapError(
      'invalid_argument',
      `--watch and --kernels need WebGPU or CUDA; ${device.info.device} has no kernels`,
    )
  const [name, read] =
    device instanceof CudaDevice
      ? (['kernels-cuda', readCudaSources] as const)
      : (['kernels-wgsl', readKernelLibrary] as const)
  return { folder: given ?? join(packageRoot(), name), read }
}
