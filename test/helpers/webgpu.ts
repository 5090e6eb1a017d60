import type { WebGpuDevice } from '../../backends/webgpu/device.ts'
import { openNodeWebGpu } from '../../backends/webgpu/node/open.ts'
import { ExactmapError } from '../../src/errors.ts'

/**
 * WebGPU for tests whose subject is not the driver: SwiftShader where there is one, since it compiles kernels many times
 * sooner than lavapipe, else what there is.
 *
 * @param without features not to use although the adapter has them
 */
export async function quickWebGpu(without: readonly string[] = []): Promise<WebGpuDevice> {
  try {
    return await openNodeWebGpu({ driver: 'swiftshader', without })
  } catch (error) {
    if (!(error instanceof ExactmapError)) throw error
    return openNodeWebGpu({ without })
  }
}
