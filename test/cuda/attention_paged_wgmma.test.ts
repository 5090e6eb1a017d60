import { afterAll, describe, expect, it } from 'vitest'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { PADDING } from '../../src/ops/attention_math.ts'
import {
  attention_paged,
  type PagedAttributes,
  pagedCase,
  type Rows,
  upTo,
} from '../../src/ops/attention_paged.ts'
import type { FormatName } from '../../src/tensor/format.ts'
import { compareOutputs, vectorProgram } from '../../src/verify/run.ts'
import { makeVector } from '../../src/verify/vector.ts'
import { emulatedDevice } from '../helpers/cuda.ts'

const device = await emulatedDevice()
afterAll(() => {
  if (typeof device !== 'string') device.destroy()
})

interface Few {
  readonly multiprocessors: number
  readonly attrs: Partial<PagedAttributes>
  readonly batch: number
  readonly rows: Rows
  readonly pool: FormatName
  readonly qkv: 'f16' | 'bf16'
}

const cases: Readonly<Record<string, Few>> = {
  'several tiles and heads, more steps than the ring holds': {
    multiprocessors: 1,
    attrs: { heads: 8, kv_heads: 2, head_dim: 64 },
    batch: 1,
    rows: upTo(0, 570, 605),
    pool: 'f16',
    qkv: 'bf16',
  },
  'more pages than are looked up at once': {
    multiprocessors: 1,
    attrs: { heads: 1, head_dim: 64 },
    batch: 1,
    rows: upTo(0, 2150, 2152),
    pool: 'f16',
    qkv: 'f16',
  },
  'runs of many sequences, a tile of padding between': {
    multiprocessors: 1,
    attrs: { heads: 16, kv_heads: 1, head_dim: 64, window: 100, output: 'bf16' },
    batch: 3,
    rows: [
      ...upTo(2, 100, 104),
      ...Array.from({ length: 16 }, () => [PADDING, 0] as const),
      ...upTo(0, 250, 262),
      ...upTo(1, 0, 1),
      ...upTo(0, 263, 264),
    ],
    pool: 'e4m3',
    qkv: 'bf16',
  },
  'pages of e4m3 round both rings': {
    multiprocessors: 1,
    attrs: { heads: 2, kv_heads: 2, head_dim: 128, softcap: 5, output: 'f16' },
    batch: 1,
    rows: upTo(0, 500, 504),
    pool: 'e4m3',
    qkv: 'f16',
  },
}

// Compiled for fewer multiprocessors than a GPU has, so that a block of the persistent grid has several tiles.
describe('attention_paged_wgmma on few multiprocessors', () => {
  for (const [name, { multiprocessors, attrs, batch, rows, pool, qkv }] of Object.entries(cases))
    it(name, async (ctx) => {
      if (typeof device === 'string') return ctx.skip(device)
      const vector = makeVector(attention_paged, pagedCase(name, attrs, batch, rows, pool, 1, qkv))
      const target = cudaTarget({ ...cudaTraits['cuda-sm_90a']!, multiprocessors }, readCudaSources())
      const program = vectorProgram({ ...vector, variant: 'wgmma' }, target)
      expect(program.kernels.map((k) => k.name)).toEqual([`attention_paged_wgmma_${pool}_${attrs.head_dim}`])
      const executable = await device.load(program)
      const given = Object.entries(vector.inputs).map(([port, { bytes }]) => [port, bytes] as const)
      const got = await executable.step('main', Object.fromEntries(given))
      executable.destroy()
      expect(compareOutputs(vector, got).wrong).toBeUndefined()
    })
})
