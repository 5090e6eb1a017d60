import { afterAll } from 'vitest'
import { emulatedDevice } from '../helpers/cuda.ts'
import { describeAttentionBackwardWalks } from '../helpers/cuda_attention_backward_walks.ts'

const device = await emulatedDevice(103)
afterAll(() => {
  if (typeof device !== 'string') device.destroy()
})

describeAttentionBackwardWalks({ tcgen05: ['delta', 'tcgen05_key', 'tcgen05_query'] }, device, 'cuda-sm_103a')
