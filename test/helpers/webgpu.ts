import type { Device } from '../../backends/backend.ts'
import { ExactmapError } from '../../src/errors.ts'
import { open } from '../../src/open.ts'

/**
 * WebGPU for tests whose subject is another backend: SwiftShader where there is one, since it compiles kernels many times
 * sooner than lavapipe, else what there is.
 */
export async function quickWebGpu(): Promise<Device> {
  try {
    return await open('webgpu', { driver: 'swiftshader' })
  } catch (error) {
    if (!(error instanceof ExactmapError)) throw error
    return open('webgpu')
  }
}
