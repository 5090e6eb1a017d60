import { afterAll } from 'vitest'
import { emulatedDevice } from '../helpers/cuda.ts'
import { describeAttentionRounds } from '../helpers/cuda_attention_rounds.ts'

const device = await emulatedDevice()
afterAll(() => {
  if (typeof device !== 'string') device.destroy()
})

describeAttentionRounds('wgmma', device, 'cuda-sm_90a')
