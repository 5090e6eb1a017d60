import { afterAll } from 'vitest'
import { emulatedDevice } from '../helpers/cuda.ts'
import { describeRounds } from '../helpers/cuda_rounds.ts'

const device = await emulatedDevice(103)
afterAll(() => {
  if (typeof device !== 'string') device.destroy()
})

describeRounds('matmul_tcgen05', device, 'cuda-sm_103a', {
  'wide tiles, three each: sums change places': {
    multiprocessors: 2,
    shape: [300, 301, 328],
    format: 'bf16',
    variant: '256',
    kernels: ['matmul_tcgen05_bf16_256'],
  },
  'narrow tiles, three in one block, ring entered anywhere': {
    multiprocessors: 1,
    shape: [300, 100, 520],
    format: 'f16',
    attrs: { activation: 'silu', output: 'f16' },
    variant: '128',
    kernels: ['matmul_tcgen05_f16_128'],
  },
  'ranges of one tile in several blocks': {
    multiprocessors: 3,
    shape: [20, 40, 1528],
    format: 'bf16',
    attrs: { activation: 'gelu_tanh', output: 'bf16' },
    variant: '128',
    kernels: ['matmul_tcgen05_bf16_128', 'matmul_join'],
  },
  'scales of 32, two tiles in one block, splits': {
    multiprocessors: 2,
    shape: [131, 200, 1408],
    format: 'mxfp8',
    variant: '192',
    kernels: ['matmul_tcgen05_mxfp8_192'],
  },
  'scales of 16 and of tensors, ranges of several tiles': {
    multiprocessors: 4,
    shape: [20, 200, 1536],
    format: 'nvfp4',
    attrs: { activation: 'silu', output: 'bf16' },
    variant: '192',
    kernels: ['matmul_tcgen05_nvfp4_192', 'matmul_join'],
  },
})
