import { afterAll, describe, expect, it } from 'vitest'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { firstRows, normal, values } from '../../src/ops/cases.ts'
import type { CaseInput } from '../../src/ops/contract.ts'
import { opContract } from '../../src/ops/index.ts'
import type { FormatName } from '../../src/tensor/format.ts'
import { compareOutputs, vectorProgram } from '../../src/verify/run.ts'
import { makeVector } from '../../src/verify/vector.ts'
import { emulatedDevice } from '../helpers/cuda.ts'

// As matmul_wgmma.test.ts: few multiprocessors, so that a block goes from tile to tile and from expert to expert.
const device = await emulatedDevice()
afterAll(() => {
  if (typeof device !== 'string') device.destroy()
})

/** Rows of no expert, past a tile, one, none, two tiles, of no expert. */
const ROWS = 310
const offsets = values([6], [2, 140, 141, 141, 280, 299], 'u32')

const forward = (columns: number, depth: number, format: FormatName) => ({
  x: normal([ROWS, depth], 1, format),
  offsets,
  w: normal([5, columns, depth], 0.1, format),
})

const backwardInput = (columns: number, depth: number, format: FormatName) => ({
  dy: normal([ROWS, depth], 1, format),
  offsets,
  w: normal([5, depth, columns], 0.1, format),
})

/** The rows of the last two experts and those of none behind them are NaN: nobody else's sums may be. */
const backwardWeight = (rows: number, columns: number, format: FormatName) => ({
  accumulator: normal([5, rows, columns]),
  dy: firstRows([ROWS, rows], 141, 1, format),
  x: firstRows([ROWS, columns], 141, 1, format),
  offsets,
})

const cases: readonly (readonly [
  variant: string,
  multiprocessors: number,
  op: string,
  kernels: readonly string[],
  inputs: Readonly<Record<string, CaseInput>>,
])[] = [
  [
    '2x256',
    2,
    'matmul_grouped',
    ['matmul_grouped_wgmma_bf16_2x256', 'matmul_grouped_zero'],
    forward(300, 136, 'bf16'),
  ],
  [
    '128',
    1,
    'matmul_grouped',
    ['matmul_grouped_wgmma_f16_128', 'matmul_grouped_zero'],
    forward(152, 136, 'f16'),
  ],
  [
    '2x128',
    2,
    'matmul_grouped',
    ['matmul_grouped_fp8_2x128', 'matmul_grouped_zero'],
    forward(140, 256, 'e4m3_128'),
  ],
  [
    '128',
    1,
    'matmul_grouped',
    ['matmul_grouped_fp8_128', 'matmul_grouped_zero'],
    forward(140, 256, 'e4m3_128'),
  ],
  [
    '2x256',
    2,
    'matmul_grouped_backward_input',
    ['matmul_grouped_backward_input_wgmma_f16_2x256', 'matmul_grouped_zero'],
    backwardInput(304, 128, 'f16'),
  ],
  [
    '128',
    1,
    'matmul_grouped_backward_input',
    ['matmul_grouped_backward_input_wgmma_bf16_128', 'matmul_grouped_zero'],
    backwardInput(152, 128, 'bf16'),
  ],
  [
    '2x256',
    2,
    'matmul_grouped_backward_weight',
    ['copy', 'matmul_grouped_backward_weight_wgmma_bf16_2x256'],
    backwardWeight(144, 264, 'bf16'),
  ],
  [
    '128',
    1,
    'matmul_grouped_backward_weight',
    ['copy', 'matmul_grouped_backward_weight_wgmma_f16_128'],
    backwardWeight(144, 136, 'f16'),
  ],
]

describe('grouped products on few multiprocessors', () => {
  for (const [variant, multiprocessors, op, kernels, inputs] of cases)
    it(`${kernels.at(op.endsWith('weight') ? 1 : 0)}, blocks with tiles of several experts`, async (ctx) => {
      if (typeof device === 'string') return ctx.skip(device)
      const vector = makeVector(opContract(op), { name: 'few', attrs: {}, inputs })
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
