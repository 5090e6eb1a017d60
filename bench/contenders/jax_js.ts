import type { OpenContender } from '../suite/contender.ts'
import { openJax } from './jax_js/api.ts'
import { prepareDecode } from './jax_js/decode.ts'
import { prepareKernel } from './jax_js/kernel.ts'
import { prepareTrainStep } from './jax_js/train.ts'
import { resting } from './resting.ts'

/** jax-js on its WebGPU device. */
export const openJaxJs: OpenContender = async () => {
  const opened = await openJax()
  if (typeof opened === 'string') return opened
  const { jax, version } = opened
  const { adapterInfo } = jax.getWebGPUDevice()
  return resting({
    name: 'jax-js',
    version,
    kind: 'webgpu',
    device: `${adapterInfo.device}, dawn-node`,
    async prepare(work) {
      switch (work.kind) {
        case 'decode':
          return prepareDecode(jax, work)
        case 'train_step':
          return prepareTrainStep(jax, work)
        case 'startup':
          return { unsupported: 'a library, not a program' }
        default:
          return prepareKernel(jax, work)
      }
    },
  })
}
