import type { WebGpuDevice } from '../../backends/webgpu/device.ts'
import { openNodeWebGpu } from '../../backends/webgpu/node/open.ts'
import { version } from '../../src/version.ts'
import type { OpenContender } from '../suite/contender.ts'
import { prepareDecode } from './exactmap/decode.ts'
import { prepareKernel } from './exactmap/kernel.ts'
import { prepareStartup } from './exactmap/startup.ts'
import { prepareTrainStep } from './exactmap/train.ts'

export const openExactmap: OpenContender = async (driver) => {
  const device: WebGpuDevice = await openNodeWebGpu({ driver })
  return {
    name: 'exactmap',
    version,
    kind: 'webgpu',
    device: `${device.info.device}, ${device.info.driver}`,
    async prepare(work) {
      switch (work.kind) {
        case 'decode':
          return prepareDecode(device, work)
        case 'train_step':
          return prepareTrainStep(device, work)
        case 'startup':
          return prepareStartup(driver, work)
        default:
          return prepareKernel(device, work)
      }
    },
  }
}
