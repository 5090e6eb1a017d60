import type { CudaDevice } from '../../backends/cuda/device.ts'
import { openCudaEmulated } from '../../backends/cuda/open.ts'
import { ExactmapError } from '../../src/errors.ts'

/**
 * The emulated CUDA device, or why there is none here: what was not built, or g++ that is missing.
 *
 * @param capability of this process's devices from now on, 103 for sm_103a; by default what the environment says
 */
export async function emulatedDevice(capability?: number): Promise<CudaDevice | string> {
  if (capability !== undefined) process.env.EXACTMAP_EMULATED_CAPABILITY = String(capability)
  try {
    return await openCudaEmulated()
  } catch (error) {
    if (error instanceof ExactmapError && (error.code === 'no_device' || error.code === 'not_found'))
      return error.message
    throw error
  }
}
