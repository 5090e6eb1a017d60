import { afterAll, describe, expect, it } from 'vitest'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { normal } from '../../src/ops/cases.ts'
import { opContract } from '../../src/ops/index.ts'
import { compareOutputs, vectorProgram } from '../../src/verify/run.ts'
import { makeVector } from '../../src/verify/vector.ts'
import { emulatedDevice } from '../helpers/cuda.ts'

// As matmul_wgmma.test.ts: few multiprocessors, so that a block has several tiles and goes round its ring.
const device = await emulatedDevice()
afterAll(() => {
  if (typeof device !== 'string') device.destroy()
})

interface Rounds {
  readonly multiprocessors: number
  readonly shape: readonly [rows: number, columns: number, depth: number]
  readonly attrs?: object
  /** Without bias and residual. */
  readonly plain?: boolean
  readonly variant: string
  readonly kernels: readonly string[]
}

const cases: Readonly<Record<string, Rounds>> = {
  'clusters with tiles past both edges, three each': {
    multiprocessors: 2,
    shape: [300, 301, 384],
    variant: '2x128',
    kernels: ['matmul_fp8_2x128'],
  },
  'one block, ring entered anywhere': {
    multiprocessors: 1,
    shape: [260, 100, 896],
    attrs: { activation: 'silu', output: 'bf16' },
    variant: '128',
    kernels: ['matmul_fp8_128'],
  },
  'ranges of one tile in several blocks': {
    multiprocessors: 3,
    shape: [20, 40, 1536],
    variant: '128',
    kernels: ['matmul_fp8_plain_128', 'matmul_join'],
  },
  'nothing behind the sums, clusters, three tiles each': {
    multiprocessors: 2,
    shape: [300, 304, 256],
    attrs: { output: 'bf16' },
    plain: true,
    variant: '2x128',
    kernels: ['matmul_fp8_plain_2x128'],
  },
}

describe('matmul_fp8 on few multiprocessors', () => {
  for (const [name, { multiprocessors, shape, attrs = {}, plain, variant, kernels }] of Object.entries(cases))
    it(name, async (ctx) => {
      if (typeof device === 'string') return ctx.skip(device)
      const [rows, columns, depth] = shape
      const inputs = {
        x: normal([rows, depth], 1, 'e4m3_128'),
        w: normal([columns, depth], 0.1, 'e4m3_128'),
        ...(plain ? {} : { bias: normal([columns], 1, 'bf16'), residual: normal([rows, columns]) }),
      }
      const vector = makeVector(opContract('matmul'), { name, attrs, inputs })
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
