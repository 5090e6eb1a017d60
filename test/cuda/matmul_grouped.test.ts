import { afterAll, describe, expect, it } from 'vitest'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { normal, values } from '../../src/ops/cases.ts'
import { opContract } from '../../src/ops/index.ts'
import { compareOutputs, vectorProgram } from '../../src/verify/run.ts'
import { makeVector } from '../../src/verify/vector.ts'
import { emulatedDevice } from '../helpers/cuda.ts'

// As matmul_wgmma.test.ts: few multiprocessors, so that a block goes from tile to tile and from expert to expert.
const device = await emulatedDevice()
afterAll(() => {
  if (typeof device !== 'string') device.destroy()
})

describe('matmul_grouped_wgmma on few multiprocessors', () => {
  for (const [variant, multiprocessors, format, columns] of [
    ['2x256', 2, 'bf16', 301],
    ['128', 1, 'f16', 150],
  ] as const)
    it(`${variant}, blocks with tiles of several experts`, async (ctx) => {
      if (typeof device === 'string') return ctx.skip(device)
      const inputs = {
        x: normal([310, 136], 1, format),
        // Of no expert, past a tile, one row, none, two, of no expert.
        offsets: values([6], [2, 140, 141, 141, 280, 299], 'u32'),
        w: normal([5, columns, 136], 0.1, format),
      }
      const vector = makeVector(opContract('matmul_grouped'), { name: 'few', attrs: {}, inputs })
      const target = cudaTarget({ ...cudaTraits['cuda-sm_90a']!, multiprocessors }, readCudaSources())
      const program = vectorProgram({ ...vector, variant }, target)
      expect(program.kernels.map((k) => k.name)).toEqual([
        `matmul_grouped_wgmma_${format}_${variant}`,
        'matmul_grouped_zero',
      ])
      const executable = await device.load(program)
      const given = Object.entries(vector.inputs).map(([port, { bytes }]) => [port, bytes] as const)
      const got = await executable.step('main', Object.fromEntries(given))
      executable.destroy()
      expect(compareOutputs(vector, got).wrong).toBeUndefined()
    })
})
