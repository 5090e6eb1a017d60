import { afterAll, describe, expect, it } from 'vitest'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { normal } from '../../src/ops/cases.ts'
import { opContract } from '../../src/ops/index.ts'
import type { FormatName } from '../../src/tensor/format.ts'
import { compareOutputs, vectorProgram } from '../../src/verify/run.ts'
import { makeVector } from '../../src/verify/vector.ts'
import { emulatedDevice } from '../helpers/cuda.ts'

// Products compiled for fewer multiprocessors than a GPU has, so that a block of the persistent grid has several tiles
// and goes round its ring of stages several times: shapes that need that on 132 of them are too large to emulate.
const device = await emulatedDevice()
afterAll(() => {
  if (typeof device !== 'string') device.destroy()
})

type Shape = readonly [rows: number, columns: number, depth: number]

/** What each product is of. */
const operands = {
  matmul: ([rows, columns, depth]: Shape, format: FormatName) => ({
    x: normal([rows, depth], 1, format),
    w: normal([columns, depth], 0.1, format),
    bias: normal([columns], 1, format),
    residual: normal([rows, columns]),
  }),
  matmul_plain: ([rows, columns, depth]: Shape, format: FormatName) => ({
    x: normal([rows, depth], 1, format),
    w: normal([columns, depth], 0.1, format),
  }),
  matmul_backward_input: ([rows, columns, depth]: Shape, format: FormatName) => ({
    dy: normal([rows, depth], 1, format),
    w: normal([depth, columns], 0.1, format),
  }),
  matmul_backward_weight: ([rows, columns, depth]: Shape, format: FormatName) => ({
    accumulator: normal([rows, columns]),
    dy: normal([depth, rows], 1, format),
    x: normal([depth, columns], 1, format),
  }),
}

interface Rounds {
  readonly of?: keyof typeof operands
  readonly multiprocessors: number
  readonly shape: Shape
  readonly format: FormatName
  readonly attrs?: object
  readonly variant: string
  readonly kernels: readonly string[]
}

const cases: Readonly<Record<string, Rounds>> = {
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
}

describe('matmul_wgmma on few multiprocessors', () => {
  for (const [name, { of = 'matmul', shape, format, ...rest }] of Object.entries(cases))
    it(name, async (ctx) => {
      if (typeof device === 'string') return ctx.skip(device)
      const { multiprocessors, attrs = {}, variant, kernels } = rest
      const inputs = operands[of](shape, format)
      const op = of === 'matmul_plain' ? 'matmul' : of
      const vector = makeVector(opContract(op), { name, attrs, inputs })
      const target = cudaTarget({ ...cudaTraits['cuda-sm_90a']!, multiprocessors }, readCudaSources())
      const program = vectorProgram({ ...vector, variant }, target)
      expect(program.kernels.map((k) => k.name)).toEqual(kernels)
      const executable = await device.load(program)
      const given = Object.entries(vector.inputs).map(([port, { bytes }]) => [port, bytes] as const)
      const got = await executable.step('main', Object.fromEntries(given))
      executable.destroy()
      expect(compareOutputs(vector, got).wrong).toBeUndefined()
    })
})
