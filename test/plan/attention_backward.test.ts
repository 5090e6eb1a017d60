import { describe, expect, it } from 'vitest'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { type DenseAttributes, packedWidth } from '../../src/ops/attention_math.ts'
import { checkCall, opContract } from '../../src/ops/index.ts'
import { tensorType } from '../../src/tensor/type.ts'

// Which launches calls get on the multiprocessors of a GPU; the kernels themselves run in test/cuda.
const hopper = cudaTarget(cudaTraits['cuda-sm_90a']!, readCudaSources())
const blackwell = cudaTarget(cudaTraits['cuda-sm_103a']!, readCudaSources())

function call(rows: number, over: Partial<DenseAttributes>, format: 'f16' | 'bf16' | 'f32' = 'bf16') {
  const attrs = { heads: 32, kv_heads: 8, head_dim: 128, sequence: rows, scale: 1, ...over }
  const y = tensorType(format, rows, attrs.heads * attrs.head_dim)
  return checkCall(opContract('attention_backward'), attrs, {
    dy: y,
    qkv: tensorType(format, rows, packedWidth(attrs)),
    y,
    lse: tensorType('f32', rows, attrs.heads),
  })
}

function plan(variant: string, ...given: Parameters<typeof call>) {
  const target = variant === 'tcgen05' ? blackwell : hopper
  const choice = target.withVariant(variant).choose(call(...given))
  if ('unsupported' in choice) throw new Error(choice.unsupported)
  return {
    launches: choice.launches.map((launch) => [
      launch.variant.replace('attention_backward_', ''),
      launch.workgroups[0],
    ]),
    kept: choice.scratch?.kept?.shape,
  }
}

describe('attention_backward_wgmma', () => {
  it('is offered for heads of 64 and 128 dims in 16 bits on sm_90a', () => {
    const both = ['portable', 'wgmma', 'wgmma_kept']
    expect(hopper.variants(call(512, {}))).toEqual(both)
    expect(hopper.variants(call(512, { head_dim: 64 }, 'f16'))).toEqual(both)
    expect(hopper.variants(call(512, { head_dim: 96 }))).toEqual([])
    expect(hopper.variants(call(512, {}, 'f32'))).toEqual([])
  })

  it('has a block for each item, but no more than multiprocessors', () => {
    expect(plan('wgmma', 260, { sequence: 130 })).toEqual({
      launches: [
        ['delta_128_bf16', 1040],
        ['wgmma_key_128_bf16', 32],
        ['wgmma_query_128_bf16', 128],
      ],
      kept: undefined,
    })
    expect(plan('wgmma', 4096, {}).launches.slice(1)).toEqual([
      ['wgmma_key_128_bf16', 132],
      ['wgmma_query_128_bf16', 132],
    ])
  })

  it('keeps ds where it fits into 4 GB, and walks twice where not', () => {
    expect(plan('wgmma_kept', 260, { sequence: 130, head_dim: 64 }, 'f16')).toEqual({
      launches: [
        ['delta_64_f16', 520],
        ['wgmma_key_64_f16', 32],
        ['kept_64_f16', 128],
      ],
      kept: [2 * 32 * 256, 256],
    })
    expect(plan('wgmma_kept', 8192, {}).kept).toEqual([32 * 8192, 8192])
    expect(plan('wgmma_kept', 8320, {})).toEqual(plan('wgmma', 8320, {}))
  })
})

describe('attention_backward_tcgen05', () => {
  it('is offered for heads of 64 and 128 dims in 16 bits on sm_103a', () => {
    expect(blackwell.variants(call(512, {}))).toEqual(['portable', 'tcgen05'])
    expect(blackwell.variants(call(512, { head_dim: 64 }, 'f16'))).toEqual(['portable', 'tcgen05'])
    expect(blackwell.variants(call(512, { head_dim: 96 }))).toEqual([])
    expect(blackwell.variants(call(512, {}, 'f32'))).toEqual([])
  })

  it('has a block for each item, but no more than multiprocessors, and keeps no ds', () => {
    expect(plan('tcgen05', 260, { sequence: 130, head_dim: 64 }, 'f16')).toEqual({
      launches: [
        ['delta_64_f16', 520],
        ['tcgen05_key_64_f16', 32],
        ['tcgen05_query_64_f16', 128],
      ],
      kept: undefined,
    })
    expect(plan('tcgen05', 4096, {}).launches.slice(1)).toEqual([
      ['tcgen05_key_128_bf16', 148],
      ['tcgen05_query_128_bf16', 148],
    ])
  })
})
