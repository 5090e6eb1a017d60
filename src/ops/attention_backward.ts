import { z } from 'zod'
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
  packedViews,
  score,
  scoreError,
  shiftedExpError,
  visibleRows,
} from './attention_math.ts'
import { normal, uniform } from './cases.ts'
import { defineOp, type OpCall, type Ports } from './contract.ts'
import { EPS_F32, TINY_F32 } from './tolerance.ts'

/**
 * Gradients and their error budgets in one pass, as the budget needs every intermediate.
 * p = exp(s - lse), ds = p (dy.v - dy.y) scale cap'(s); dq = sum ds k, dk = sum ds q, dv = sum p dy.
 */
function backward({ attrs, inputs }: OpCall<DenseAttributes>, given: Ports<Float64Array>) {
  const rows = inputs.qkv!.shape[0]!
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
        add(q.at, ds, dsError, k)
        add(k.at, ds, dsError, q)
        add(v.at, p, pError, dy)
      }
  for (let i = 0; i < error.length; i++) error[i]! += (terms[i]! + 2) * EPS_F32 * magnitude[i]!
  return { dqkv, error }
}

/** Gradient of attention with respect to the packed projection. y and lse are the forward outputs. */
export const attention_backward = defineOp<DenseAttributes>({
  name: 'attention_backward',
  summary:
    "p = exp(s - lse), ds = p (dy.v - dy.y) scale cap'; dq = sum_u ds k, dk = sum_t ds q, dv = sum_t p dy",
  source: 'Dao et al., FlashAttention, 2022, appendix B (recomputed probabilities)',
  inputs: {
    dy: { doc: '[T, H D]', formats: ['f32'] },
    qkv: { doc: '[T, (H + 2 KV) D]', formats: ['f32'] },
    y: { doc: '[T, H D]: forward output', formats: ['f32'] },
    lse: { doc: '[T, H]: forward output', formats: ['f32'] },
    documents: { doc: '[T]: as in attention', formats: ['u32'], optional: true },
  },
  outputs: { dqkv: { doc: '[T, (H + 2 KV) D]', formats: ['f32'] } },
  attributes: z.strictObject(denseSchema) as z.ZodType<DenseAttributes>,
  infer(attrs, inputs) {
    const rows = checkDense('attention_backward', attrs, inputs)
    for (const port of ['dy', 'y'])
      checkShape('attention_backward', port, inputs[port]!.shape, [rows, attrs.heads * attrs.head_dim])
    checkShape('attention_backward', 'lse', inputs.lse!.shape, [rows, attrs.heads])
    return { dqkv: tensorType('f32', ...inputs.qkv!.shape) }
  },
  gradient: { none: 'second derivatives are not supported' },
  reference: (call, given) => ({ dqkv: backward(call, given).dqkv }),
  tolerance(call, given) {
    const { error } = backward(call, given)
    return { dqkv: (i) => error[i]! }
  },
  // Scores twice, dy.v twice, and one product each for dq, dk and dv.
  flops: ({ attrs, inputs }) => 14 * attrs.head_dim * attrs.heads * densePairs(attrs, inputs.qkv!.shape[0]!),
  // y and lse need not belong to qkv for the formulas to hold: drawn at random they test more.
  cases: denseCases.map((c) => {
    const { heads, head_dim } = c.attrs
    const rows = c.inputs.qkv!.shape[0]!
    const wide = c.name === 'large_magnitude'
    return {
      ...c,
      inputs: {
        dy: normal([rows, heads * head_dim]),
        ...c.inputs,
        y: normal([rows, heads * head_dim]),
        // Around what the forward pass gives: the largest score of the wide case is 413, and exp(score - lse) must
        // stay finite.
        lse: wide ? uniform([rows, heads], 410, 416) : uniform([rows, heads], 1, 4),
      },
    }
  }),
})
