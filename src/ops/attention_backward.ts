import { z } from 'zod'
import { check } from '../errors.ts'
import type { FormatName } from '../tensor/format.ts'
import { tensorType } from '../tensor/type.ts'
import { denseCases } from './attention.ts'
import {
  checkDense,
  checkShape,
  type DenseAttributes,
  densePairs,
  denseSchema,
  dot,
  dotMagnitude,
  floats,
  PADDING,
  packedViews,
  packedWidth,
  score,
  scoreError,
  shiftedExpError,
  visibleRows,
} from './attention_math.ts'
import { normal, uniform, values } from './cases.ts'
import { type Case, type CaseInput, defineOp, type OpCall, type Ports } from './contract.ts'
import { EPS_F32, roundingError, storedIn, TINY_F32 } from './tolerance.ts'

/**
 * Gradients and their error budgets in one pass, as the budget needs every intermediate.
 * p = exp(s - lse), ds = p (dy.v - dy.y) scale cap'(s); dq = sum ds k, dk = sum ds q, dv = sum p dy.
 * With operands of 16 bits tensor cores take p and ds in 16 bits too, ds with or without its scale.
 */
function backward({ attrs, inputs }: OpCall<DenseAttributes>, given: Ports<Float64Array>) {
  const { shape, format } = inputs.qkv!
  const rows = shape[0]!
  const { heads, head_dim: dim, scale, softcap } = attrs
  const { query, key, value } = packedViews(attrs, given.qkv!)
  const dqkv = floats(given.qkv!.length)
  const error = floats(given.qkv!.length)
  const terms = floats(given.qkv!.length)
  /** out += factor * vec; the budget is |vec| * factorError, roundings are added from `terms` at the end. */
  const magnitude = floats(given.qkv!.length)
  const add = (
    out: number,
    factor: number,
    factorError: number,
    vec: { data: Float64Array; at: number },
  ): void => {
    for (let d = 0; d < dim; d++) {
      const x = vec.data[vec.at + d]!
      dqkv[out + d]! += factor * x
      magnitude[out + d]! += Math.abs(factor * x)
      error[out + d]! += factorError * Math.abs(x) + TINY_F32
      terms[out + d]!++
    }
  }
  for (let t = 0; t < rows; t++)
    for (const u of visibleRows(attrs, given.documents, t))
      for (let h = 0; h < heads; h++) {
        const [q, k, v] = [query(t, h), key(u, h), value(u, h)]
        const dy = { data: given.dy!, at: (t * heads + h) * dim }
        const y = { data: given.y!, at: (t * heads + h) * dim }
        const lse = given.lse![t * heads + h]!
        const s = score(attrs, q, k)
        const p = Math.exp(s - lse)
        // The difference s - lse rounds relative to its own size, which shiftedExpError counts.
        const pError = p * shiftedExpError(s - lse, scoreError(attrs, q, k)) + TINY_F32
        const pRounding = roundingError(format, p + pError)
        const difference = dot(dy, v, dim) - dot(dy, y, dim)
        const differenceError = (dim + 3) * EPS_F32 * (dotMagnitude(dy, v, dim) + dotMagnitude(dy, y, dim))
        const t2 = softcap > 0 ? s / softcap : 0
        const slope = 1 - t2 * t2
        // tanh is good to 8 roundings of 1 beside the error of the score it is taken of.
        const slopeError =
          softcap > 0 ? 2 * Math.abs(t2) * (8 * EPS_F32 + scoreError(attrs, q, k) / softcap) + 3 * EPS_F32 : 0
        const ds = p * difference * slope * scale
        const dsError =
          scale *
            (pError * Math.abs(difference) * slope +
              p * differenceError * slope +
              p * Math.abs(difference) * slopeError) +
          5 * EPS_F32 * Math.abs(ds) +
          TINY_F32
        const unscaled = Math.max(1, scale)
        const dsRounding = unscaled * roundingError(format, (Math.abs(ds) + dsError) / unscaled)
        add(q.at, ds, dsError + dsRounding, k)
        add(k.at, ds, dsError + dsRounding, q)
        add(v.at, p, pError + pRounding, dy)
      }
  for (let i = 0; i < error.length; i++) error[i]! += (terms[i]! + 2) * EPS_F32 * magnitude[i]!
  return { dqkv, error }
}

/** y and lse need not belong to qkv for the formulas to hold: drawn at random they test more. */
function withOutputs(
  { heads, head_dim }: DenseAttributes,
  inputs: Ports<CaseInput>,
  lse: readonly [number, number],
): Ports<CaseInput> {
  const { shape, format } = inputs.qkv!
  const rows = shape[0]!
  return {
    dy: normal([rows, heads * head_dim], 1, format),
    ...inputs,
    y: normal([rows, heads * head_dim], 1, format),
    lse: uniform([rows, heads], ...lse),
  }
}

/** A case of `batch` blocks in 16 bits; `documents` is repeated over all rows. */
function one16(
  name: string,
  format: FormatName,
  batch: number,
  over: Partial<DenseAttributes> & { readonly sequence: number; readonly head_dim: number },
  documents?: number[],
): Case<DenseAttributes> {
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
  return {
    name,
    attrs,
    inputs: withOutputs(
      attrs,
      {
        qkv: normal([rows, packedWidth(attrs)], 1, format),
        ...(documents && { documents: values([rows], documents, 'u32') }),
      },
      [1, 4],
    ),
  }
}

/** Gradient of attention with respect to the packed projection. y and lse are the forward outputs. */
export const attention_backward = defineOp<DenseAttributes>({
  name: 'attention_backward',
  summary:
    "p = exp(s - lse), ds = p (dy.v - dy.y) scale cap'; dq = sum_u ds k, dk = sum_t ds q, dv = sum_t p dy",
  source: 'Dao et al., FlashAttention, 2022, appendix B (recomputed probabilities)',
  inputs: {
    dy: { doc: '[T, H D], the format of qkv', formats: ['f32', 'f16', 'bf16'] },
    qkv: {
      doc: '[T, (H + 2 KV) D]; NaN stays in its block, here and in dy',
      formats: ['f32', 'f16', 'bf16'],
    },
    y: { doc: '[T, H D]: forward output, the format of qkv', formats: ['f32', 'f16', 'bf16'] },
    lse: { doc: '[T, H]: forward output', formats: ['f32'] },
    documents: { doc: '[T]: as in attention', formats: ['u32'], optional: true },
  },
  outputs: {
    dqkv: { doc: '[T, (H + 2 KV) D], f32 or the format of qkv', formats: ['f32', 'f16', 'bf16'] },
  },
  attributes: z.strictObject(denseSchema) as z.ZodType<DenseAttributes>,
  infer(attrs, inputs) {
    const rows = checkDense('attention_backward', attrs, inputs)
    const { format, shape } = inputs.qkv!
    for (const port of ['dy', 'y']) {
      checkShape('attention_backward', port, inputs[port]!.shape, [rows, attrs.heads * attrs.head_dim])
      check(
        inputs[port]!.format === format,
        'unsupported',
        () => `attention_backward: qkv in ${format} needs ${port} in ${format}, got ${inputs[port]!.format}`,
      )
    }
    checkShape('attention_backward', 'lse', inputs.lse!.shape, [rows, attrs.heads])
    return { dqkv: tensorType(attrs.output ?? 'f32', ...shape) }
  },
  gradient: { none: 'second derivatives are not supported' },
  reference: (call, given) => ({ dqkv: backward(call, given).dqkv }),
  tolerance(call, given, { dqkv }) {
    const { error } = backward(call, given)
    return { dqkv: storedIn(call.attrs.output ?? 'f32', (i) => error[i]!, dqkv!) }
  },
  // Scores twice, dy.v twice, and one product each for dq, dk and dv.
  flops: ({ attrs, inputs }) => 14 * attrs.head_dim * attrs.heads * densePairs(attrs, inputs.qkv!.shape[0]!),
  cases: [
    // Around what the forward pass gives: the largest score of the wide case is 413, and exp(score - lse) must stay
    // finite.
    ...denseCases.map((c) => ({
      ...c,
      inputs: withOutputs(c.attrs, c.inputs, c.name === 'large_magnitude' ? [410, 416] : [1, 4]),
    })),
    one16('bf16_d64_grouped', 'bf16', 1, { heads: 2, sequence: 37, head_dim: 64, output: 'bf16' }),
    one16('f16_d64_documents', 'f16', 2, { sequence: 19, head_dim: 64 }, [
      ...Array(9).fill(3),
      ...Array(7).fill(0),
      5,
      PADDING,
    ]),
    one16('f16_d128_softcap', 'f16', 1, {
      sequence: 13,
      head_dim: 128,
      causal: false,
      softcap: 1.5,
      output: 'f16',
    }),
    one16('bf16_d128_window', 'bf16', 1, { heads: 2, sequence: 11, head_dim: 128, window: 3 }),
    one16('bf16_past_tile', 'bf16', 1, { heads: 2, sequence: 67, head_dim: 16, output: 'bf16' }),
    one16('f16_d20', 'f16', 2, { heads: 3, kv_heads: 3, sequence: 5, head_dim: 20, output: 'f16' }),
    one16('bf16_d256', 'bf16', 1, { sequence: 3, head_dim: 256 }),
    one16('f16_d256', 'f16', 1, { sequence: 3, head_dim: 256, output: 'f16' }),
  ],
})
