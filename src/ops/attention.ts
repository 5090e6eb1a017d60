import { z } from 'zod'
import { tensorType } from '../tensor/type.ts'
import {
  checkDense,
  type DenseAttributes,
  densePairs,
  denseRows,
  denseSchema,
  floats,
  PADDING,
  packedWidth,
} from './attention_math.ts'
import { normal, values } from './cases.ts'
import { type Case, defineOp } from './contract.ts'

const base: DenseAttributes = {
  heads: 1,
  kv_heads: 1,
  head_dim: 4,
  sequence: 4,
  scale: 0.5,
  causal: true,
  window: 0,
  softcap: 0,
}

/** A case of `batch` blocks; `documents` is repeated over all rows. */
function one(
  name: string,
  batch: number,
  over: Partial<DenseAttributes>,
  documents?: number[],
  scale = 1,
): Case<DenseAttributes> {
  const attrs = { ...base, scale: (over.head_dim ?? base.head_dim) ** -0.5, ...over }
  const rows = batch * attrs.sequence
  return {
    name,
    attrs,
    inputs: {
      qkv: normal([rows, packedWidth(attrs)], scale),
      ...(documents && { documents: values([rows], documents, 'u32') }),
    },
  }
}

const masks: Partial<DenseAttributes> = { heads: 2, kv_heads: 1, sequence: 9 }
const blocks: Partial<DenseAttributes> = { heads: 2, kv_heads: 2, sequence: 33, head_dim: 16 }

/**
 * Shared by attention and attention_backward: same masks and shapes, forward and back. Software drivers take
 * seconds to compile each of these kernels, so cases that differ in values only have one shape.
 */
export const denseCases: readonly Case<DenseAttributes>[] = [
  one('one', 1, { sequence: 1 }),
  one('grouped', 1, { heads: 4, kv_heads: 2, sequence: 5, head_dim: 8 }),
  one('full', 1, { heads: 2, sequence: 6, causal: false }),
  one('window', 1, { heads: 2, sequence: 9, window: 3 }),
  one('softcap', 1, { heads: 2, kv_heads: 1, sequence: 6, softcap: 1.5 }),
  one('documents', 1, masks, [3, 3, 0, 0, 0, 3, 5, 5, 5]),
  one('padding', 1, masks, [7, 7, PADDING, 7, 7, PADDING, PADDING, 9, 9]),
  one('all_masked', 1, masks, [PADDING]),
  one('window_documents', 1, { ...masks, window: 3, softcap: 1.5 }, [3, 3, 3, 3, 3, 3, 5, 5, PADDING]),
  one('past_tile', 2, blocks),
  one('large_magnitude', 2, blocks, undefined, 10),
  one('d32', 2, { heads: 4, kv_heads: 2, sequence: 71, head_dim: 32 }),
  one('d256', 1, { heads: 1, sequence: 11, head_dim: 256 }),
]

/** Grouped-query attention inside blocks of `sequence` rows; for training. */
export const attention = defineOp<DenseAttributes>({
  name: 'attention',
  summary:
    'y[t,h] = softmax_u(cap(scale q[t,h].k[u,g])) v[u,g] over the visible rows u; lse = log of the sum of exponentials',
  source:
    'Vaswani et al. 2017; Ainslie et al. 2023 (grouped queries); Milakov and Gimelshein 2018 (online softmax)',
  inputs: {
    qkv: {
      doc: '[T, (H + 2 KV) D]: query heads, key heads, value heads; T is a multiple of sequence',
      formats: ['f32'],
    },
    documents: {
      doc: '[T]: rows attend rows of the same number; 0xffffffff is padding',
      formats: ['u32'],
      optional: true,
    },
  },
  outputs: {
    y: { doc: '[T, H D]; zeros where a row may attend nothing', formats: ['f32'] },
    lse: {
      doc: '[T, H]: log-sum-exp of the scores, -3e38 where a row may attend nothing; no gradient',
      formats: ['f32'],
    },
  },
  attributes: z.strictObject(denseSchema) as z.ZodType<DenseAttributes>,
  infer(attrs, inputs) {
    const rows = checkDense('attention', attrs, inputs)
    return {
      y: tensorType('f32', rows, attrs.heads * attrs.head_dim),
      lse: tensorType('f32', rows, attrs.heads),
    }
  },
  gradient: {
    qkv: {
      input: ({ g, attrs, inputs, outputs, dOutputs }) =>
        g.op('attention_backward', attrs, {
          dy: dOutputs.y,
          qkv: inputs.qkv,
          y: outputs.y,
          lse: outputs.lse,
          documents: inputs.documents,
        }).dqkv!,
    },
  },
  reference({ attrs, inputs }, given) {
    const rows = inputs.qkv!.shape[0]!
    const y = floats(rows * attrs.heads * attrs.head_dim)
    const lse = floats(rows * attrs.heads)
    for (const row of denseRows(attrs, rows, given)) {
      y.set(row.y, (row.t * attrs.heads + row.h) * attrs.head_dim)
      lse[row.t * attrs.heads + row.h] = row.lse
    }
    return { y, lse }
  },
  tolerance({ attrs, inputs }, given) {
    const rows = inputs.qkv!.shape[0]!
    const y = floats(rows * attrs.heads * attrs.head_dim)
    const lse = floats(rows * attrs.heads)
    for (const row of denseRows(attrs, rows, given)) {
      y.set(row.yError, (row.t * attrs.heads + row.h) * attrs.head_dim)
      // -3e38 is stored as the nearest f32.
      lse[row.t * attrs.heads + row.h] = row.lseError + (row.lse < -1e38 ? 2e31 : 0)
    }
    return { y: (i) => y[i]!, lse: (i) => lse[i]! }
  },
  flops: ({ attrs, inputs }) => 4 * attrs.head_dim * attrs.heads * densePairs(attrs, inputs.qkv!.shape[0]!),
  cases: [
    ...denseCases,
    one('window_full', 1, { heads: 1, sequence: 7, window: 2, causal: false }),
    one('d64_documents', 1, { heads: 2, kv_heads: 2, sequence: 67, head_dim: 64 }, [
      ...Array(40).fill(0),
      ...Array(20).fill(1),
      ...Array(7).fill(PADDING),
    ]),
    one('d20', 1, { heads: 3, sequence: 13, head_dim: 20, window: 5, softcap: 30 }),
  ],
})
