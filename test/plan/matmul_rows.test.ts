import { describe, expect, it } from 'vitest'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { checkCall, opContract } from '../../src/ops/index.ts'
import type { FormatName } from '../../src/tensor/format.ts'
import { tensorType } from '../../src/tensor/type.ts'

// Which kernel a product of few rows gets on CUDA: how far the weights' way from memory is what limits it.
const target = cudaTarget(cudaTraits['cuda-sm_90a']!, readCudaSources())

function launchesOf(rows: number, w: FormatName, columns: number, depth: number, x: FormatName = 'f32') {
  const inputs = { x: tensorType(x, rows, depth), w: tensorType(w, columns, depth) }
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

describe.each(['q8_0', 'e4m3_128', 'q4_0'] as const)('rows of x in bf16 by weights in %s', (format) => {
  it.each([
    [1, 4096, `matmul_skinny_${format}_x16`],
    [32, 4096, `matmul_skinny_${format}_x16`],
    [33, 4096, `matmul_quants_${format}_64`],
    [90, 4096, `matmul_quants_${format}_64`],
    [512, 4096, `matmul_quants_${format}_128`],
  ] as const)('%i by a depth of %i: %s', (rows, depth, kernel) => {
    expect(launchesOf(rows, format, 4096, depth, 'bf16')[0]!.variant).toBe(kernel)
  })
})

it('rows of x in bf16 by weights whose rows are no whole stages: matmul_skinny, 32 rows a block', () => {
  const [product] = launchesOf(512, 'q4_0', 4096, 4000, 'bf16')
  expect(product!.variant).toBe('matmul_skinny_q4_0_x16')
  expect(product!.workgroups[0]).toBe((512 / 32) * (4096 / 128))
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
