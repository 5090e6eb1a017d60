import type { CudaDevice } from '../../backends/cuda/device.ts'
import { openCudaEmulated } from '../../backends/cuda/open.ts'
import { ExactmapError } from '../../src/errors.ts'

/** The emulated CUDA device, or why there is none here: what was not built, or g++ that is missing. */
export async function emulatedDevice(): Promise<CudaDevice | string> {
  try {
    return await openCudaEmulated()
  } catch (error) {
    if (error instanceof ExactmapError && (error.code === 'no_device' || error.code === 'not_found'))
      return error.message
    throw error
  }
}
