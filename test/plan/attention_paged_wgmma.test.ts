import { describe, expect, it } from 'vitest'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { packedWidth } from '../../src/ops/attention_math.ts'
import type { PagedAttributes } from '../../src/ops/attention_paged.ts'
import { checkCall, opContract } from '../../src/ops/index.ts'
import type { FormatName } from '../../src/tensor/format.ts'
import { tensorType } from '../../src/tensor/type.ts'

// How calls are cut into tiles for the 132 multiprocessors of a GPU; the kernel itself runs in test/cuda.
const hopper = cudaTarget(cudaTraits['cuda-sm_90a']!, readCudaSources())

function call(
  rows: number,
  over: Partial<PagedAttributes>,
  qkv: FormatName = 'bf16',
  cached: FormatName = 'f16',
) {
  const attrs = { heads: 32, kv_heads: 8, head_dim: 128, scale: 1, window: 0, softcap: 0, ...over }
  const pool = tensorType(cached, 40, attrs.kv_heads, 64, attrs.head_dim)
  return checkCall(opContract('attention_paged'), attrs, {
    qkv: tensorType(qkv, rows, packedWidth(attrs)),
    k_pool: pool,
    v_pool: pool,
    page_table: tensorType('u32', 1, 40),
    sequence: tensorType('u32', rows),
    position: tensorType('u32', rows),
  })
}

function plan(...given: Parameters<typeof call>) {
  const choice = hopper.withVariant('wgmma').choose(call(...given))
  if ('unsupported' in choice) throw new Error(choice.unsupported)
  const { variant, workgroups, constants } = choice.launches[0]!
  return { variant, blocks: workgroups[0], span: constants.span }
}

describe('attention_paged_wgmma', () => {
  it('is offered for queries in 16 bits over f16 and e4m3, heads of 64 and 128 dims, many rows, on sm_90a', () => {
    expect(hopper.variants(call(512, {}))).toContain('wgmma')
    expect(hopper.variants(call(512, { head_dim: 64 }, 'f16', 'e4m3'))).toContain('wgmma')
    for (const other of [
      call(512, {}, 'f32'),
      call(512, {}, 'f16', 'f32'),
      call(512, { head_dim: 96 }),
      call(1, {}),
    ])
      expect(hopper.variants(other)).toEqual([])
    const blackwell = cudaTarget(cudaTraits['cuda-sm_103a']!, readCudaSources())
    expect(blackwell.variants(call(512, {}))).toEqual([])
  })

  it('gives a tile all heads that share keys, as far as boxes have whole patterns of eight rows', () => {
    expect(plan(2048, {})).toEqual({ variant: 'attention_paged_wgmma_f16_128', blocks: 132, span: 32 })
    expect(plan(64, {}, 'f16', 'e4m3')).toEqual({
      variant: 'attention_paged_wgmma_e4m3_128',
      blocks: 16,
      span: 32,
    })
    expect(plan(64, { heads: 64, kv_heads: 2 })).toMatchObject({ span: 8, blocks: 32 })
    // Heads that have keys of their own, or share them by threes or sixes.
    expect(plan(64, { kv_heads: 32 })).toMatchObject({ span: 128, blocks: 32 })
    expect(plan(64, { heads: 24 })).toMatchObject({ span: 128, blocks: 24 })
    expect(plan(64, { heads: 48 })).toMatchObject({ span: 64, blocks: 24 })
  })
})
