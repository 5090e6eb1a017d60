import { afterAll } from 'vitest'
import { emulatedDevice } from '../helpers/cuda.ts'
import { describeAttentionRounds, groupedRounds } from '../helpers/cuda_attention_rounds.ts'

const device = await emulatedDevice()
afterAll(() => {
  if (typeof device !== 'string') device.destroy()
})

describeAttentionRounds('wgmma', device, 'cuda-sm_90a')
describeAttentionRounds('wgmma_pair', device, 'cuda-sm_90a', groupedRounds)
