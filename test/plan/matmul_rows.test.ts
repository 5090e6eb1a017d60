import { describe, expect, it } from 'vitest'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { checkCall, opContract } from '../../src/ops/index.ts'
import type { FormatName } from '../../src/tensor/format.ts'
import { tensorType } from '../../src/tensor/type.ts'

// Which kernel a product of few rows gets on CUDA: how far the weights' way from memory is what limits it.
const target = cudaTarget(cudaTraits['cuda-sm_90a']!, readCudaSources())

function launchesOf(rows: number, w: FormatName, columns: number, depth: number) {
  const inputs = { x: tensorType('f32', rows, depth), w: tensorType(w, columns, depth) }
  const choice = target.choose(checkCall(opContract('matmul'), {}, inputs))
  if ('unsupported' in choice) throw new Error(choice.unsupported)
  return choice.launches
}

describe.each([
  ['bf16', [1, 4], [5, 32]],
  ['f16', [1, 4], [5, 32]],
  ['q8_0', [1, 4], [5, 32]],
  ['e4m3_128', [1, 4], [5, 32]],
  ['q4_0', [1, 1], [2, 32]],
] as const)('rows of x by weights in %s', (format, vector, skinny) => {
  const kernelOf = (rows: number) => launchesOf(rows, format, 4096, 4096)[0]!.variant

  it.each(vector)('%i: matmul_vector', (rows) => {
    expect(kernelOf(rows)).toBe(`matmul_vector_${format}`)
  })
  it.each(skinny)('%i: matmul_skinny', (rows) => {
    expect(kernelOf(rows)).toBe(`matmul_skinny_${format}`)
  })
  it('33: matmul_mma', () => expect(kernelOf(33)).toBe(`matmul_mma_${format}`))
})

describe('blocks of matmul_skinny', () => {
  it('are about one for each multiprocessor, without a second launch up to eight rows of 4,096 columns', () => {
    const launches = launchesOf(8, 'bf16', 4096, 4096)
    expect(launches.map((launch) => launch.variant)).toEqual(['matmul_skinny_bf16'])
    expect(launches[0]!.workgroups[0]).toBe(4096 / 32)
  })

  it('share the reduction where columns are too few for all', () => {
    const [product, join] = launchesOf(16, 'bf16', 4096, 4096)
    expect(join!.variant).toBe('matmul_join')
    expect(product!.workgroups[0]).toBe((4096 / 64) * 2)
    expect(product!.constants).toMatchObject({ splits: 2, split_depth: 2048 })
  })

  it('have work for all their warps: ranges are no shorter than a chunk for each that shares the reduction', () => {
    const [product] = launchesOf(8, 'q4_0', 32, 8192)
    expect(product!.constants.split_depth).toBe(8 * 128)
  })
})
