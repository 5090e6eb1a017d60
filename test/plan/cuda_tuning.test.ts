import { describe, expect, it } from 'vitest'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { type CudaTarget, cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { cudaTuningFiles, encodeCudaTuning, parseCudaTuning, tuningOf } from '../../backends/cuda/tuning.ts'
import { speedCases } from '../../bench/gpu/speed_cases.ts'
import { measuredEntries, predictedEntries, questionsOf } from '../../bench/gpu/tuning.ts'
import { checkCall, opContract } from '../../src/ops/index.ts'
import { tensorType } from '../../src/tensor/type.ts'

const traitsOf = (arch: string) => Object.values(cudaTraits).find((t) => t.arch === arch)!

describe.each(Object.entries(cudaTuningFiles))('%s', (_, file) => {
  const traits = traitsOf(file.arch)

  it('names variants that there are', () => {
    for (const one of speedCases)
      for (const { variants, ...selection } of questionsOf(traits, one)) {
        const chosen = tuningOf(file.entries)(selection, [])
        const names = ['portable', ...variants.map(({ name }) => name)]
        if (chosen !== undefined) expect(names, `${one.op}/${one.name}`).toContain(chosen)
      }
  })

  it('has what the rules predict where nothing was measured (npm run gpu -- predict)', () => {
    if (file.measured) return
    const entries = predictedEntries(traits, speedCases)
    expect(encodeCudaTuning({ ...file, entries })).toBe(encodeCudaTuning(file))
  })

  it('is read as it is written, and refused by name', () => {
    expect(parseCudaTuning(JSON.parse(encodeCudaTuning(file)), 'a.json')).toEqual({
      ...file,
      entries: expect.arrayContaining([...file.entries]),
    })
    expect(() => parseCudaTuning({ ...file, version: 2 }, 'a.json')).toThrow(/version.*gpu -- predict/)
  })
})

describe('the choice by tuning data', () => {
  const product = (rows: number, columns: number, depth: number) =>
    checkCall(
      opContract('matmul'),
      {},
      {
        x: tensorType('bf16', rows, depth),
        w: tensorType('bf16', columns, depth),
      },
    )
  const kernel = (target: CudaTarget, ...shape: [number, number, number]): string => {
    const choice = target.choose(product(...shape))
    return 'launches' in choice ? choice.launches[0]!.variant : choice.unsupported
  }
  const entry = { op: 'matmul', formats: 'bf16', shape: { rows: 4096, columns: 4096, depth: 4096 } }
  const withEntries = (variant: string) =>
    cudaTarget({ ...traitsOf('sm_90a'), tuning: tuningOf([{ ...entry, variant }]) }, readCudaSources())

  it('is that of the nearest shape, and the portable kernel far from all', () => {
    const target = withEntries('128')
    expect(kernel(target, 4096, 4096, 4096)).toBe('matmul_wgmma_plain_bf16_128')
    expect(kernel(target, 2048, 8192, 8192)).toBe('matmul_wgmma_plain_bf16_128')
    expect(kernel(target, 2048, 8192, 8208)).toBe('matmul_mma_bf16_x16')
    expect(kernel(target, 512, 64, 64)).toBe('matmul_mma_bf16_x16')
  })

  it('is the portable kernel where that was the fastest, or the variant is no more', () => {
    expect(kernel(withEntries('portable'), 4096, 4096, 4096)).toBe('matmul_mma_bf16_x16')
    expect(kernel(withEntries('gone'), 4096, 4096, 4096)).toBe('matmul_mma_bf16_x16')
  })

  it('comes from the times of all variants', () => {
    const questions = [{ ...entry, variants: [{ name: '128', cycles: 9 }] }]
    const times = { portable: 2.5, '2x256': 0.5, '128': 0.75 }
    expect(measuredEntries([{ questions, times }])).toEqual([{ ...entry, variant: '2x256', times }])
  })
})
