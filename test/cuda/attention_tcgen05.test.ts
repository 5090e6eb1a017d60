import { afterAll } from 'vitest'
import { emulatedDevice } from '../helpers/cuda.ts'
import { describeAttentionRounds } from '../helpers/cuda_attention_rounds.ts'

const device = await emulatedDevice(103)
afterAll(() => {
  if (typeof device !== 'string') device.destroy()
})

describeAttentionRounds('tcgen05', device, 'cuda-sm_103a')
