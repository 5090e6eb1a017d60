import { z } from 'zod'
import { check } from '../errors.ts'
import type { FormatName } from '../tensor/format.ts'
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
import { firstRows, normal, values } from './cases.ts'
import { type Case, defineOp, type OpCall, type Ports } from './contract.ts'
import { storedIn } from './tolerance.ts'

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
  format: FormatName = 'f32',
): Case<DenseAttributes> {
  const attrs = { ...base, scale: (over.head_dim ?? base.head_dim) ** -0.5, ...over }
  const rows = batch * attrs.sequence
  return {
    name,
    attrs,
    inputs: {
      qkv: normal([rows, packedWidth(attrs)], scale, format),
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

const in16 = (
  name: string,
  format: 'f16' | 'bf16',
  batch: number,
  over: Partial<DenseAttributes>,
  documents?: number[],
  scale = 1,
): Case<DenseAttributes> => one(`${format}_${name}`, batch, over, documents, scale, format)

/**
 * qkv in 16 bits. Tiles of 128 rows or keys, as tensor cores have them, want head sizes of 64 and 128; others go where
 * f32 goes.
 */
const cases16: readonly Case<DenseAttributes>[] = [
  in16('d64', 'bf16', 1, { sequence: 133, head_dim: 64, output: 'bf16' }),
  in16('d64_large_magnitude', 'bf16', 1, { sequence: 133, head_dim: 64, output: 'bf16' }, undefined, 6),
  in16('d64_blocks', 'f16', 2, { sequence: 35, head_dim: 64, window: 9 }),
  in16('d64_grouped', 'f16', 1, { heads: 6, kv_heads: 1, sequence: 5, head_dim: 64, output: 'f16' }),
  in16('d128_documents', 'f16', 1, { sequence: 67, head_dim: 128, causal: false, output: 'f16' }, [
    ...Array(40).fill(4),
    ...Array(20).fill(1),
    ...Array(7).fill(PADDING),
  ]),
  in16('d128_grouped', 'f16', 1, { heads: 2, sequence: 21, head_dim: 128, window: 7 }),
  in16('d128_softcap', 'bf16', 1, { heads: 2, sequence: 19, head_dim: 128, softcap: 2 }),
  in16('d20', 'bf16', 1, { heads: 3, sequence: 13, head_dim: 20, window: 5, output: 'bf16' }),
  in16('d40', 'f16', 1, { heads: 2, sequence: 7, head_dim: 40, softcap: 30 }),
  in16('d256', 'bf16', 1, { sequence: 11, head_dim: 256 }),
  in16('d256', 'f16', 1, { sequence: 11, head_dim: 256, output: 'f16' }),
]

/** Two blocks, the second one padding that holds NaN: tiles of keys that reach past a block's end find it. */
function beforePadding(format: 'f16' | 'bf16', over: Partial<DenseAttributes>): Case<DenseAttributes> {
  const attrs = { ...base, scale: (over.head_dim ?? base.head_dim) ** -0.5, ...over }
  const [rows, first] = [2 * attrs.sequence, attrs.sequence]
  return {
    name: `${format}_before_padding`,
    attrs,
    inputs: {
      qkv: firstRows([rows, packedWidth(attrs)], first, 1, format),
      documents: values([rows], [...Array(first).fill(0), ...Array(first).fill(PADDING)], 'u32'),
    },
  }
}

/** Outputs and their error budgets, as computed in f32. */
function results(call: OpCall<DenseAttributes>, given: Ports<Float64Array>) {
  const { heads, head_dim } = call.attrs
  const [y, yError, lse, lseError] = [head_dim, head_dim, 1, 1].map((width) =>
    floats(call.inputs.qkv!.shape[0]! * heads * width),
  ) as [Float64Array, Float64Array, Float64Array, Float64Array]
  for (const row of denseRows(call, given)) {
    const item = row.t * heads + row.h
    y.set(row.y, item * head_dim)
    yError.set(row.yError, item * head_dim)
    lse[item] = row.lse
    // -3e38 is stored as the nearest f32.
    lseError[item] = row.lseError + (row.lse < -1e38 ? 2e31 : 0)
  }
  return { y, yError, lse, lseError }
}

/** Grouped-query attention inside blocks of `sequence` rows; for training. */
export const attention = defineOp<DenseAttributes>({
  name: 'attention',
  summary:
    'y[t,h] = softmax_u(cap(scale q[t,h].k[u,g])) v[u,g] over the visible rows u; lse = log of the sum of exponentials',
  source:
    'Vaswani et al. 2017; Ainslie et al. 2023 (grouped queries); Milakov and Gimelshein 2018 (online softmax)',
  inputs: {
    qkv: {
      doc: '[T, (H + 2 KV) D]: query heads, key heads, value heads; T is a multiple of sequence. NaN stays in its block',
      formats: ['f32', 'f16', 'bf16'],
    },
    documents: {
      doc: '[T]: rows attend rows of the same number; 0xffffffff is padding',
      formats: ['u32'],
      optional: true,
    },
  },
  outputs: {
    y: {
      doc: '[T, H D], f32 or the format of qkv; zeros where a row may attend nothing',
      formats: ['f32', 'f16', 'bf16'],
    },
    lse: {
      doc: '[T, H]: log-sum-exp of the scores, -3e38 where a row may attend nothing; no gradient',
      formats: ['f32'],
    },
  },
  attributes: z.strictObject(denseSchema) as z.ZodType<DenseAttributes>,
  infer(attrs, inputs) {
    const rows = checkDense('attention', attrs, inputs)
    return {
      y: tensorType(attrs.output ?? 'f32', rows, attrs.heads * attrs.head_dim),
      lse: tensorType('f32', rows, attrs.heads),
    }
  },
  gradient: {
    qkv: {
      input: ({ g, attrs, inputs, outputs, dOutputs }) => {
        const { format } = inputs.qkv!.type
        check(
          format === 'f32',
          'unsupported',
          () => `attention: qkv in ${format} has no gradient; differentiate the graph with qkv in f32`,
        )
        return g.op('attention_backward', attrs, {
          dy: dOutputs.y,
          qkv: inputs.qkv,
          y: outputs.y,
          lse: outputs.lse,
          documents: inputs.documents,
        }).dqkv!
      },
    },
  },
  reference(call, given) {
    const { y, lse } = results(call, given)
    return { y, lse }
  },
  tolerance(call, given, { y }) {
    const { yError, lseError } = results(call, given)
    return {
      y: storedIn(call.attrs.output ?? 'f32', (i) => yError[i]!, y!),
      lse: (i) => lseError[i]!,
    }
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
    ...cases16,
    beforePadding('f16', { sequence: 35, head_dim: 64, output: 'f16' }),
    beforePadding('bf16', { heads: 2, sequence: 37, head_dim: 64, output: 'bf16' }),
  ],
})
