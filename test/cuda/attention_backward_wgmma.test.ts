import { afterAll } from 'vitest'
import { emulatedDevice } from '../helpers/cuda.ts'
import { describeAttentionBackwardWalks } from '../helpers/cuda_attention_backward_walks.ts'

const device = await emulatedDevice()
afterAll(() => {
  if (typeof device !== 'string') device.destroy()
})

describeAttentionBackwardWalks(
  { wgmma: ['delta', 'wgmma_key', 'wgmma_query'], wgmma_kept: ['delta', 'wgmma_key', 'kept'] },
  device,
  'cuda-sm_90a',
)
