import type { OpenContender } from '../suite/contender.ts'
import { resting } from './resting.ts'
import { startTfjs } from './tfjs/api.ts'
import { prepareDecode } from './tfjs/decode.ts'
import { prepareKernel } from './tfjs/kernel.ts'
import { prepareTrainStep } from './tfjs/train.ts'

/** TensorFlow.js with its WebGPU backend. */
export const openTfjs: OpenContender = async () => {
  const started = await startTfjs()
  if (typeof started === 'string') return started
  const { tf, device } = started
  return resting({
    name: 'tfjs',
    version: tf.version_core,
    kind: 'webgpu',
    device,
    async prepare(work) {
      switch (work.kind) {
        case 'decode':
          return prepareDecode(tf, work)
        case 'train_step':
          return prepareTrainStep(tf, work)
        case 'startup':
          return { unsupported: 'it has no loader of models' }
        default:
          return prepareKernel(tf, work)
      }
    },
  })
}
