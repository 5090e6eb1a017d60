import { afterAll } from 'vitest'
import { emulatedDevice } from '../helpers/cuda.ts'
import { describeRounds } from '../helpers/cuda_rounds.ts'

const device = await emulatedDevice(103)
afterAll(() => {
  if (typeof device !== 'string') device.destroy()
})

describeRounds('matmul_tcgen05', device, 'cuda-sm_103a', {
  'pairs of blocks, four tiles in one: sums change places': {
    multiprocessors: 2,
    shape: [300, 301, 328],
    format: 'bf16',
    variant: 'pair_256',
    kernels: ['matmul_tcgen05_bf16_pair_256'],
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
  'ranges of one tile in several pairs': {
    multiprocessors: 6,
    shape: [140, 40, 1528],
    format: 'f16',
    variant: 'pair_256',
    kernels: ['matmul_tcgen05_f16_pair_256', 'matmul_join'],
  },
  'scales of 32, two tiles in one block, splits': {
    multiprocessors: 2,
    shape: [131, 200, 1408],
    format: 'mxfp8',
    variant: '192',
    kernels: ['matmul_tcgen05_mxfp8_192'],
  },
  'scales of 32, two tiles in one pair': {
    multiprocessors: 2,
    shape: [131, 300, 1408],
    format: 'mxfp8',
    attrs: { activation: 'silu', output: 'f16' },
    variant: 'pair_224',
    kernels: ['matmul_tcgen05_mxfp8_pair_224'],
  },
  'scales of 16 and of tensors, ranges of several tiles': {
    multiprocessors: 4,
    shape: [20, 200, 1536],
    format: 'nvfp4',
    attrs: { activation: 'silu', output: 'bf16' },
    variant: '192',
    kernels: ['matmul_tcgen05_nvfp4_192', 'matmul_join'],
  },
  'scales of 16 and of tensors, two tiles in one pair': {
    multiprocessors: 2,
    shape: [260, 200, 1536],
    format: 'nvfp4',
    variant: 'pair_224',
    kernels: ['matmul_tcgen05_nvfp4_pair_224'],
  },
  'sums of blocks of e4m3 added by threads, two tiles in one pair': {
    multiprocessors: 2,
    shape: [200, 264, 1408],
    format: 'e4m3_128',
    attrs: { activation: 'silu', output: 'bf16' },
    variant: 'pair_256',
    kernels: ['matmul_tcgen05_fp8_pair_256'],
  },
  'sums of blocks of e4m3 added by threads, ranges of two tiles': {
    multiprocessors: 4,
    shape: [20, 140, 1408],
    format: 'e4m3_128',
    variant: '128',
    kernels: ['matmul_tcgen05_fp8_128', 'matmul_join'],
  },
  'gradient of x by pairs, two tiles in one': {
    of: 'matmul_backward_input',
    multiprocessors: 2,
    shape: [140, 264, 328],
    format: 'bf16',
    attrs: { output: 'bf16' },
    variant: 'pair_256',
    kernels: ['matmul_backward_input_tcgen05_bf16_pair_256'],
  },
  'gradient of x, three tiles in one block': {
    of: 'matmul_backward_input',
    multiprocessors: 1,
    shape: [140, 136, 328],
    format: 'f16',
    variant: '128',
    kernels: ['matmul_backward_input_tcgen05_f16_128'],
  },
  'gradient of w by pairs, two tiles in one': {
    of: 'matmul_backward_weight',
    multiprocessors: 2,
    shape: [264, 136, 331],
    format: 'f16',
    variant: 'pair_256',
    kernels: ['copy', 'matmul_backward_weight_tcgen05_f16_pair_256'],
  },
  'gradient of w, ranges of one tile': {
    of: 'matmul_backward_weight',
    multiprocessors: 3,
    shape: [40, 72, 1500],
    format: 'bf16',
    variant: '128',
    kernels: ['copy', 'matmul_backward_weight_tcgen05_bf16_128', 'matmul_join'],
  },
})
