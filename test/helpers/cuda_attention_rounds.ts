import { describe, expect, it } from 'vitest'
import type { CudaDevice } from '../../backends/cuda/device.ts'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { type DenseAttributes, PADDING, packedWidth } from '../../src/ops/attention_math.ts'
import { normal, values } from '../../src/ops/cases.ts'
import { opContract } from '../../src/ops/index.ts'
import { compareOutputs, vectorProgram } from '../../src/verify/run.ts'
import { makeVector } from '../../src/verify/vector.ts'

interface Rounds {
  readonly multiprocessors: number
  readonly format: 'f16' | 'bf16'
  readonly batch?: number
  readonly attrs: Partial<DenseAttributes> & { readonly sequence: number; readonly head_dim: number }
  readonly documents?: readonly number[]
  /** Rows of a tile that each of its heads has. */
  readonly span?: number
  /** Pairs of a block and a tile's heads that run together, where not all of them do. */
  readonly section?: number
}

const run = (length: number, document: number): number[] => Array(length).fill(document)

const cases: Readonly<Record<string, Rounds>> = {
  'causal, the longest tiles first': {
    multiprocessors: 2,
    format: 'bf16',
    attrs: { sequence: 400, head_dim: 64, output: 'bf16' },
  },
  'more keys than the ring holds': {
    multiprocessors: 1,
    format: 'f16',
    attrs: { sequence: 390, head_dim: 128, causal: false, output: 'f16' },
  },
  'blocks that end inside of tiles': {
    multiprocessors: 3,
    format: 'f16',
    batch: 3,
    attrs: { sequence: 131, head_dim: 64, heads: 2, kv_heads: 2 },
  },
  'a window that begins inside of tiles': {
    multiprocessors: 2,
    format: 'bf16',
    attrs: { sequence: 520, head_dim: 64, window: 150, output: 'bf16' },
  },
  'a window that looks ahead without end': {
    multiprocessors: 2,
    format: 'f16',
    attrs: { sequence: 300, head_dim: 64, window: 20, causal: false },
  },
  'heads of a group in one tile, of several tiles': {
    multiprocessors: 2,
    format: 'bf16',
    batch: 2,
    attrs: { sequence: 150, head_dim: 64, heads: 4, kv_heads: 1 },
    span: 32,
  },
  'sixteen heads in one tile': {
    multiprocessors: 1,
    format: 'f16',
    attrs: { sequence: 7, head_dim: 128, heads: 32, kv_heads: 2, output: 'f16' },
    span: 8,
  },
  'documents that come again, tiles of padding, none in common': {
    multiprocessors: 1,
    format: 'bf16',
    attrs: { sequence: 900, head_dim: 64, output: 'bf16' },
    documents: [...run(130, 7), ...run(250, 2), ...run(270, PADDING), ...run(180, 7), ...run(70, 3)],
  },
  'sections in turn, the last one the smallest': {
    multiprocessors: 2,
    format: 'f16',
    batch: 5,
    attrs: { sequence: 270, head_dim: 64 },
    section: 2,
  },
  'capped scores of documents in two blocks': {
    multiprocessors: 2,
    format: 'f16',
    batch: 2,
    attrs: { sequence: 150, head_dim: 128, softcap: 2 },
    documents: [...run(140, 1), ...run(60, 2), ...run(30, PADDING), ...run(70, 3)],
  },
}

/** With heads for the pairs of blocks that share keys. */
export const groupedRounds: Readonly<Record<string, Rounds>> = {
  'heads of a group in two tiles, of several tiles': {
    multiprocessors: 2,
    format: 'bf16',
    attrs: { sequence: 150, head_dim: 64, heads: 4, kv_heads: 1 },
    span: 64,
  },
  'more keys than the ring holds, blocks that end inside of tiles, sections in turn': {
    multiprocessors: 2,
    format: 'f16',
    batch: 2,
    attrs: { sequence: 270, head_dim: 128, heads: 2, kv_heads: 1, causal: false, output: 'f16' },
    section: 2,
  },
  'documents, with a multiprocessor left over': {
    multiprocessors: 3,
    format: 'bf16',
    batch: 2,
    attrs: { sequence: 200, head_dim: 64, heads: 4, kv_heads: 2, window: 90 },
    documents: [...run(190, 1), ...run(60, 2), ...run(50, PADDING), ...run(100, 3)],
  },
}

/**
 * Runs attention over sequences of several tiles, compiled for fewer multiprocessors than a GPU has, so that a block of the
 * persistent grid has several tiles and goes round its ring of stages several times: too large to be stored.
 */
export function describeAttentionRounds(
  variant: string,
  device: CudaDevice | string,
  traits: keyof typeof cudaTraits,
  rounds: Readonly<Record<string, Rounds>> = cases,
): void {
  describe(`attention_${variant} on few multiprocessors`, () => {
    for (const [
      name,
      { multiprocessors, format, batch = 1, attrs: over, documents, span = 128, section },
    ] of Object.entries(rounds))
      it(name, async (ctx) => {
        if (typeof device === 'string') return ctx.skip(device)
        const attrs: DenseAttributes = {
          heads: 1,
          kv_heads: 1,
          scale: over.head_dim ** -0.5,
          causal: true,
          window: 0,
          softcap: 0,
          ...over,
        }
        const rows = batch * attrs.sequence
        const vector = makeVector(opContract('attention'), {
          name,
          attrs,
          inputs: {
            qkv: normal([rows, packedWidth(attrs)], 1, format),
            ...(documents && { documents: values([rows], documents, 'u32') }),
          },
        })
        const target = cudaTarget({ ...cudaTraits[traits]!, multiprocessors }, readCudaSources())
        const program = vectorProgram({ ...vector, variant }, target)
        expect(program.kernels.map((k) => [k.name, k.constants.span])).toEqual([
          [`attention_${variant}_${format}_${attrs.head_dim}`, span],
        ])
        // Keys and values of sections fill L2, which is too much to emulate.
        const kernels = program.kernels.map((k) => ({
          ...k,
          constants: { ...k.constants, ...(section && { section }) },
        }))
        const executable = await device.load({ ...program, kernels })
        const given = Object.entries(vector.inputs).map(([port, { bytes }]) => [port, bytes] as const)
        const got = await executable.step('main', Object.fromEntries(given))
        executable.destroy()
        expect(compareOutputs(vector, got).wrong).toBeUndefined()
      })
  })
}
