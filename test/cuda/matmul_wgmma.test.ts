import { afterAll } from 'vitest'
import { emulatedDevice } from '../helpers/cuda.ts'
import { describeRounds } from '../helpers/cuda_rounds.ts'

const device = await emulatedDevice()
afterAll(() => {
  if (typeof device !== 'string') device.destroy()
})

describeRounds('matmul_wgmma', device, 'cuda-sm_90a', {
  'wide tiles, three each': {
    multiprocessors: 2,
    shape: [300, 301, 328],
    format: 'bf16',
    variant: '2x256',
    kernels: ['matmul_wgmma_bf16_2x256'],
  },
  'narrow tiles, three in one block, ring entered anywhere': {
    multiprocessors: 1,
    shape: [300, 100, 520],
    format: 'f16',
    attrs: { activation: 'silu', output: 'f16' },
    variant: '128',
    kernels: ['matmul_wgmma_f16_128'],
  },
  'more rows of tiles than run together': {
    multiprocessors: 4,
    shape: [2177, 20, 64],
    format: 'bf16',
    variant: '128',
    kernels: ['matmul_wgmma_bf16_128'],
  },
  'ranges of one tile in several blocks': {
    multiprocessors: 3,
    shape: [20, 40, 1528],
    format: 'bf16',
    attrs: { activation: 'gelu_tanh', output: 'bf16' },
    variant: '128',
    kernels: ['matmul_wgmma_plain_bf16_128', 'matmul_join'],
  },
  'boxes of f32, three wide tiles each': {
    of: 'matmul_plain',
    multiprocessors: 2,
    shape: [300, 300, 200],
    format: 'f16',
    variant: '2x256',
    kernels: ['matmul_wgmma_plain_f16_2x256'],
  },
  'boxes of bf16, three narrow tiles in one block': {
    of: 'matmul_plain',
    multiprocessors: 1,
    shape: [300, 104, 200],
    format: 'bf16',
    attrs: { output: 'bf16' },
    variant: '128',
    kernels: ['matmul_wgmma_plain_bf16_128'],
  },
  'boxes of f16, an odd number for each tile': {
    of: 'matmul_plain',
    multiprocessors: 2,
    shape: [260, 392, 72],
    format: 'f16',
    attrs: { output: 'f16' },
    variant: '2x192',
    kernels: ['matmul_wgmma_plain_f16_2x192'],
  },
  'boxes of bf16, one for each tile': {
    of: 'matmul_plain',
    multiprocessors: 1,
    shape: [260, 136, 72],
    format: 'bf16',
    attrs: { output: 'bf16' },
    variant: '64',
    kernels: ['matmul_wgmma_plain_bf16_64'],
  },
  'dx in wide tiles, three each': {
    of: 'matmul_backward_input',
    multiprocessors: 2,
    shape: [300, 304, 328],
    format: 'bf16',
    attrs: { output: 'bf16' },
    variant: '2x256',
    kernels: ['matmul_backward_input_wgmma_bf16_2x256'],
  },
  'dx in narrow tiles, ring entered anywhere': {
    of: 'matmul_backward_input',
    multiprocessors: 1,
    shape: [300, 104, 520],
    format: 'f16',
    variant: '128',
    kernels: ['matmul_backward_input_wgmma_f16_128'],
  },
  'dw in wide tiles, three each': {
    of: 'matmul_backward_weight',
    multiprocessors: 2,
    shape: [304, 296, 333],
    format: 'f16',
    variant: '2x256',
    kernels: ['copy', 'matmul_backward_weight_wgmma_f16_2x256'],
  },
  'dw in narrow tiles, ranges joined to what is there': {
    of: 'matmul_backward_weight',
    multiprocessors: 6,
    shape: [136, 40, 1527],
    format: 'bf16',
    variant: '128',
    kernels: ['copy', 'matmul_backward_weight_wgmma_bf16_128', 'matmul_join'],
  },
})
