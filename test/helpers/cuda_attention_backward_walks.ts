import { describe, expect, it } from 'vitest'
import type { CudaDevice } from '../../backends/cuda/device.ts'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { type DenseAttributes, PADDING, packedWidth } from '../../src/ops/attention_math.ts'
import { firstRows, normal, uniform, values } from '../../src/ops/cases.ts'
import { opContract } from '../../src/ops/index.ts'
import { compareOutputs, vectorProgram } from '../../src/verify/run.ts'
import { makeVector } from '../../src/verify/vector.ts'

interface Walks {
  readonly multiprocessors: number
  readonly format: 'f16' | 'bf16'
  readonly batch?: number
  readonly attrs: Partial<DenseAttributes> & { readonly sequence: number; readonly head_dim: number }
  readonly documents?: readonly number[]
  /** From this row on, all are padding and hold NaN. */
  readonly padded?: number
}

const run = (length: number, document: number): number[] => Array(length).fill(document)

const cases: Readonly<Record<string, Walks>> = {
  'keys walk the queries of two heads': {
    multiprocessors: 1,
    format: 'bf16',
    attrs: { sequence: 136, head_dim: 128, heads: 2, output: 'bf16' },
  },
  'queries walk more keys than a ring holds': {
    multiprocessors: 2,
    format: 'f16',
    attrs: { sequence: 258, head_dim: 128, output: 'f16' },
  },
  'a window that begins and ends inside of tiles': {
    multiprocessors: 2,
    format: 'bf16',
    attrs: { sequence: 330, head_dim: 64, window: 150 },
  },
  'a window without an end of its own': {
    multiprocessors: 3,
    format: 'f16',
    attrs: { sequence: 270, head_dim: 64, window: 140, causal: false, output: 'f16' },
  },
  'capped scores of documents in two blocks': {
    multiprocessors: 3,
    format: 'f16',
    batch: 2,
    attrs: { sequence: 150, head_dim: 64, heads: 2, softcap: 2 },
    documents: [...run(140, 1), ...run(60, 2), ...run(30, PADDING), ...run(70, 3)],
  },
  'tiles without a document in common, and of padding alone': {
    multiprocessors: 1,
    format: 'bf16',
    attrs: { sequence: 390, head_dim: 64, causal: false },
    documents: [...run(120, 7), ...run(8, PADDING), ...run(130, 2), ...run(132, PADDING)],
  },
  'a block that ends beside padding without numbers': {
    multiprocessors: 2,
    format: 'bf16',
    batch: 2,
    attrs: { sequence: 150, head_dim: 128, heads: 2, causal: false },
    padded: 150,
  },
  'a document that ends beside padding without numbers': {
    multiprocessors: 1,
    format: 'f16',
    attrs: { sequence: 290, head_dim: 64, softcap: 3 },
    padded: 170,
  },
}

/**
 * Runs the gradient of attention over sequences of several tiles on few multiprocessors, so that blocks have several items
 * and go round their ring of stages: shapes that need that on all of a GPU's are too large to emulate.
 *
 * @param variants with the kernels of their launches, without what all names begin and end with
 */
export function describeAttentionBackwardWalks(
  variants: Readonly<Record<string, readonly string[]>>,
  device: CudaDevice | string,
  traits: keyof typeof cudaTraits,
): void {
  describe(`attention_backward of ${traits} on several tiles`, () => {
    for (const [
      name,
      { multiprocessors, format, batch = 1, attrs: over, padded, ...given },
    ] of Object.entries(cases))
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
        const documents = padded ? [...run(padded, 0), ...run(rows - padded, PADDING)] : given.documents
        const tensor = (width: number) =>
          padded ? firstRows([rows, width], padded, 1, format) : normal([rows, width], 1, format)
        const vector = makeVector(opContract('attention_backward'), {
          name,
          attrs,
          inputs: {
            dy: tensor(attrs.heads * attrs.head_dim),
            qkv: tensor(packedWidth(attrs)),
            ...(documents && { documents: values([rows], documents, 'u32') }),
            y: tensor(attrs.heads * attrs.head_dim),
            lse: uniform([rows, attrs.heads], 4, 6),
          },
        })
        const target = cudaTarget({ ...cudaTraits[traits]!, multiprocessors }, readCudaSources())
        const inputs = Object.entries(vector.inputs).map(([port, { bytes }]) => [port, bytes] as const)
        for (const [variant, kernels] of Object.entries(variants)) {
          const program = vectorProgram({ ...vector, variant }, target)
          expect(program.kernels.map((k) => k.name)).toEqual(
            kernels.map((kernel) => `attention_backward_${kernel}_${attrs.head_dim}_${format}`),
          )
          const executable = await device.load(program)
          const got = await executable.step('main', Object.fromEntries(inputs))
          executable.destroy()
          expect(compareOutputs(vector, got).wrong, variant).toBeUndefined()
        }
      })
  })
}
