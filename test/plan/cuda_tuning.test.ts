import { describe, expect, it } from 'vitest'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { type CudaTarget, cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { cudaTuningFiles, encodeCudaTuning, parseCudaTuning, tuningOf } from '../../backends/cuda/tuning.ts'
import { speedCases } from '../../bench/gpu/speed_cases.ts'
import {
  asking,
  completedEntries,
  measuredEntries,
  measuredFile,
  predictedEntries,
} from '../../bench/gpu/tuning.ts'
import { checkCall, opContract } from '../../src/ops/index.ts'
import { tensorType } from '../../src/tensor/type.ts'

const traitsOf = (arch: string) => Object.values(cudaTraits).find((t) => t.arch === arch)!

describe.each(Object.entries(cudaTuningFiles))('%s', (_, file) => {
  const traits = traitsOf(file.arch)

  it('names variants that there are', () => {
    const questionsOf = asking(traits)
    for (const one of speedCases)
      for (const { variants, ...selection } of questionsOf(one)) {
        const chosen = tuningOf(file.entries)(selection, [])
        const names = ['portable', ...variants.map(({ name }) => name)]
        if (chosen !== undefined) expect(names, `${one.op}/${one.name}`).toContain(chosen)
      }
  })

  it('has what the rules predict where nothing was measured (npm run gpu -- predict)', () => {
    const entries = completedEntries(file.entries, predictedEntries(traits, speedCases))
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

  describe('in a file', () => {
    const file = cudaTuningFiles.h200!
    const about = { driver: 'CUDA 13.0', date: '2026-01-01', commit: 'abc', command: 'x' }
    const [h100, h200] = ['NVIDIA H100 80GB HBM3', 'NVIDIA H200'].map((device) => ({ ...about, device }))
    const other = { ...entry, shape: { rows: 1, columns: 1, depth: 1 } }
    const predicted = [
      { ...entry, variant: 'guess' },
      { ...other, variant: 'guess' },
    ]
    const timed = (variant: string, of = entry) => ({ ...of, variant, times: { [variant]: 1 } })
    const record = (from: typeof file, on: typeof h100, ...entries: ReturnType<typeof timed>[]) =>
      measuredFile('h200', from, on!, entries, predicted)
    const none = { ...file, measured: null, entries: predicted }

    const entriesOf = (next: ReturnType<typeof record>) => new Set(next!.entries)

    it('replaces predictions, and only those that were measured', () => {
      const first = record(none, h200, timed('128'))!
      expect(first.measured).toEqual(h200)
      expect(entriesOf(first)).toEqual(new Set([timed('128'), predicted[1]]))
      const second = record(first, h200, timed('64', other))!
      expect(entriesOf(second)).toEqual(new Set([timed('64', other), timed('128')]))
      const third = record(second, h200, timed('256'))
      expect(entriesOf(third)).toEqual(new Set([timed('256'), timed('64', other)]))
      expect(record(none, h200)).toBeUndefined()
    })

    it('of another GPU stands in for its own, and gives way to it', () => {
      const stand = record(none, h100, timed('128'))!
      expect(stand.measured!.device).toBe('NVIDIA H100 80GB HBM3')
      const own = record(stand, h200, timed('64', other))
      expect(entriesOf(own)).toEqual(new Set([timed('64', other), predicted[0]]))
      expect(record(record(none, h200, timed('128'))!, h100, timed('64'))).toBeUndefined()
    })
  })
})
