import { describe, expect, it } from 'vitest'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { type DenseAttributes, packedWidth } from '../../src/ops/attention_math.ts'
import { checkCall, opContract } from '../../src/ops/index.ts'
import { tensorType } from '../../src/tensor/type.ts'

// How calls are cut into tiles for the 132 multiprocessors of a GPU; the kernel itself runs in test/cuda.
const hopper = cudaTarget(cudaTraits['cuda-sm_90a']!, readCudaSources())

function call(batch: number, over: Partial<DenseAttributes>, format: 'f16' | 'bf16' | 'f32' = 'bf16') {
  const attrs = { heads: 32, kv_heads: 8, head_dim: 128, sequence: 4096, scale: 1, ...over }
  const rows = batch * attrs.sequence
  return checkCall(opContract('attention'), attrs, { qkv: tensorType(format, rows, packedWidth(attrs)) })
}

function planOf(variant: 'wgmma' | 'wgmma_pair', ...given: Parameters<typeof call>) {
  const choice = hopper.withVariant(variant).choose(call(...given))
  if ('unsupported' in choice) throw new Error(choice.unsupported)
  const { variant: kernel, workgroups, constants } = choice.launches[0]!
  return { kernel, blocks: workgroups[0], span: constants.span, section: constants.section }
}

const plan = (...given: Parameters<typeof call>) => planOf('wgmma', ...given)

describe('attention_wgmma', () => {
  it('is offered for heads of 64 and 128 dims in 16 bits on sm_90a', () => {
    expect(hopper.variants(call(1, {}))).toContain('wgmma')
    expect(hopper.variants(call(1, { head_dim: 64 }, 'f16'))).toContain('wgmma')
    expect(hopper.variants(call(1, { head_dim: 96 }))).toEqual([])
    expect(hopper.variants(call(1, {}, 'f32'))).toEqual([])
    const blackwell = cudaTarget(cudaTraits['cuda-sm_103a']!, readCudaSources())
    expect(blackwell.variants(call(1, {}))).not.toContain('wgmma')
  })

  it('gives a tile rows of one head where there are enough, of several that share keys where not', () => {
    expect(plan(1, {})).toMatchObject({ kernel: 'attention_wgmma_bf16_128', blocks: 132, span: 128 })
    expect(plan(1, { sequence: 32 })).toMatchObject({ span: 32, blocks: 8 })
    expect(plan(1, { sequence: 160 })).toMatchObject({ span: 32, blocks: 40 })
    expect(plan(1, { sequence: 8, heads: 64, kv_heads: 2 })).toMatchObject({ span: 8, blocks: 4 })
    // Heads that have keys of their own, or share them by threes.
    expect(plan(1, { sequence: 32, kv_heads: 32 })).toMatchObject({ span: 128, blocks: 32 })
    expect(plan(1, { sequence: 32, heads: 24, kv_heads: 8 })).toMatchObject({ span: 128, blocks: 24 })
  })

  it('has pairs of blocks share the keys of two tiles where heads share them', () => {
    const offered = (over: Partial<DenseAttributes>) => hopper.variants(call(1, over))
    expect(offered({})).toEqual(['portable', 'wgmma', 'wgmma_pair'])
    expect(offered({ kv_heads: 32 })).toEqual(['portable', 'wgmma'])
    expect(offered({ heads: 24 })).toEqual(['portable', 'wgmma'])
    const pair = (over: Partial<DenseAttributes>) => planOf('wgmma_pair', 1, over)
    expect(pair({})).toMatchObject({ kernel: 'attention_wgmma_pair_bf16_128', blocks: 132, span: 128 })
    // All four heads would be in one tile, but each block of a pair has two.
    expect(pair({ sequence: 32 })).toMatchObject({ span: 64, blocks: 16 })
    // 4 MB and 33 MB for a key head: all of five run together, then one at a time.
    expect(pair({ sequence: 8192, heads: 10, kv_heads: 5 }).section).toBe(10)
    expect(pair({ sequence: 65536, heads: 6, kv_heads: 3 }).section).toBe(2)
  })

  it('lets heads run together whose keys and values stay in L2, in sections of one size', () => {
    expect(plan(1, {})).toMatchObject({ section: 32 })
    // 4 MB for a key head: 5 fit, and 4 make two equal sections.
    expect(plan(1, { sequence: 8192 })).toMatchObject({ section: 16 })
    expect(plan(1, { sequence: 131072, kv_heads: 32 })).toMatchObject({ section: 1 })
    expect(plan(64, { sequence: 1024, heads: 12, kv_heads: 12, head_dim: 64 })).toMatchObject({ section: 86 })
  })
})
