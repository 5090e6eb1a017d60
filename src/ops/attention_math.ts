import { z } from 'zod'
import { check } from '../errors.ts'
import type { FormatName } from '../tensor/format.ts'
import type { OpCall, Ports } from './contract.ts'
import { EPS_F32, roundingError, TINY_F32 } from './tolerance.ts'

/** What dense and paged attention have in common: attributes, one row's softmax and its error budget. */

/** Document or sequence number of a padding row: attends nothing, nobody attends it, nothing is cached. */
export const PADDING = 0xffffffff

/** Log-sum-exp of a row that may attend nothing: a large finite value, since WGSL defines no infinity. */
export const MASKED = -3.0e38

export interface HeadAttributes {
  readonly heads: number
  readonly kv_heads: number
  readonly head_dim: number
}

export interface ScoreAttributes extends HeadAttributes {
  readonly scale: number
  readonly window: number
  readonly softcap: number
}

export const headSchema = {
  heads: z.int().min(1).max(1024),
  kv_heads: z.int().min(1).max(1024),
  head_dim: z.int().min(4).max(256).multipleOf(4),
}

export const scoreSchema = {
  ...headSchema,
  scale: z.number().positive(),
  window: z.int().nonnegative().default(0),
  softcap: z.number().nonnegative().default(0),
}

/** Columns of the packed projection: query heads, key heads, value heads. */
export const packedWidth = (a: HeadAttributes): number => (a.heads + 2 * a.kv_heads) * a.head_dim

/** Checks the packed projection and returns its number of rows T. */
export function checkPacked(op: string, a: HeadAttributes, shape: readonly number[]): number {
  check(
    a.heads % a.kv_heads === 0,
    'invalid_shape',
    () => `${op}: heads must be a multiple of kv_heads, got ${a.heads} and ${a.kv_heads}`,
  )
  const width = packedWidth(a)
  check(
    shape.length === 2 && shape[1] === width,
    'invalid_shape',
    () => `${op}: qkv must be [T, (heads + 2 kv_heads) head_dim = ${width}], got [${shape}]`,
  )
  return shape[0]!
}

/** Checks the shape of one more input. */
export function checkShape(
  op: string,
  port: string,
  shape: readonly number[],
  wanted: readonly number[],
): void {
  check(
    shape.length === wanted.length && shape.every((d, i) => d === wanted[i]),
    'invalid_shape',
    () => `${op}: ${port} must be [${wanted}], got [${shape}]`,
  )
}

/** Where one vector of D numbers lies. */
export interface Vec {
  readonly data: Float64Array
  readonly at: number
}

export function dot(a: Vec, b: Vec, dim: number): number {
  let sum = 0
  for (let i = 0; i < dim; i++) sum += a.data[a.at + i]! * b.data[b.at + i]!
  return sum
}

/** Bound of sum|a b| before any rounding: what the error of a dot product is relative to. */
export function dotMagnitude(a: Vec, b: Vec, dim: number): number {
  let sum = 0
  for (let i = 0; i < dim; i++) sum += Math.abs(a.data[a.at + i]! * b.data[b.at + i]!)
  return sum
}

function magnitude(a: Vec, dim: number): number {
  let sum = 0
  for (let i = 0; i < dim; i++) sum += Math.abs(a.data[a.at + i]!)
  return sum
}

export const score = (a: ScoreAttributes, q: Vec, k: Vec): number => {
  const raw = a.scale * dot(q, k, a.head_dim)
  return a.softcap > 0 ? a.softcap * Math.tanh(raw / a.softcap) : raw
}

/**
 * Absolute error of one score: D products summed in any order, the scaling, and with a cap
 * tanh(x) = 1 - 2 / (exp(2x) + 1): the two additions, the division (2.5 ulp) and exp (3 + 2|2x| ulp, damped by
 * the derivative, at most 0.45 ulp of the result per ulp of exponent error) stay below 8 roundings of 1.
 *
 * @param queryError largest error of an element of q before anything is computed
 */
export const scoreError = (a: ScoreAttributes, q: Vec, k: Vec, queryError = 0): number =>
  (a.head_dim + 3) * EPS_F32 * a.scale * dotMagnitude(q, k, a.head_dim) +
  (queryError > 0 ? a.scale * queryError * magnitude(k, a.head_dim) : 0) +
  (a.softcap > 0 ? 8 * EPS_F32 * a.softcap : 0) +
  TINY_F32 * a.head_dim

/** Relative error of exp(x) for x <= 0 known up to `error`: one rounding of the difference, exp 3 + 2|x| ulp. */
export const shiftedExpError = (x: number, error: number): number => error + EPS_F32 * (7 + 5 * Math.abs(x))

export interface SoftmaxRow {
  readonly y: Float64Array
  readonly lse: number
  /** Error budgets of the same. */
  readonly yError: Float64Array
  readonly lseError: number
}

/**
 * softmax(scores of q with keys) times values, in float64, with the budget of an f32 online softmax.
 *
 * @param format of q, keys and values: those of 16 bits may have their weights rounded to it before the values are
 *   summed, since tensor cores multiply one format
 * @param queryError as of scoreError
 */
export function softmaxRow(
  a: ScoreAttributes,
  q: Vec,
  keys: readonly Vec[],
  vals: readonly Vec[],
  format: FormatName = 'f32',
  queryError = 0,
): SoftmaxRow {
  const dim = a.head_dim
  const y = new Float64Array(dim)
  const yError = new Float64Array(dim)
  if (keys.length === 0) return { y, lse: MASKED, yError, lseError: 0 }
  const scores = keys.map((k) => score(a, q, k))
  const top = Math.max(...scores)
  const weights = scores.map((s) => Math.exp(s - top))
  const total = weights.reduce((x, w) => x + w, 0)
  // The largest weight is exact whatever the error of its score, since the same score is subtracted; an error of
  // the maximum scales all weights alike and cancels in y but not in lse.
  const errors = keys.map((k, j) => shiftedExpError(scores[j]! - top, scoreError(a, q, k, queryError)))
  const meanError = weights.reduce((x, w, j) => x + (w / total) * errors[j]!, 0)
  // A sum of n terms, and at most one rescaling (exp, product: 8 roundings) per 8 keys.
  const sumError = (2 * keys.length + 12) * EPS_F32
  for (let d = 0; d < dim; d++) {
    for (let j = 0; j < keys.length; j++) {
      const value = vals[j]!.data[vals[j]!.at + d]!
      const part = (weights[j]! / total) * value
      y[d]! += part
      yError[d]! += Math.abs(part) * (errors[j]! + meanError + sumError)
      // Relative to the largest weight so far, which is 1 and one of the total's terms.
      yError[d]! += (roundingError(format, weights[j]!) / total) * Math.abs(value)
    }
    // Weights below the smallest normal number may be flushed.
    yError[d]! += TINY_F32 * keys.length * (1 + Math.max(...vals.map((v) => Math.abs(v.data[v.at + d]!))))
  }
  const lse = top + Math.log(total)
  const topError = Math.max(...keys.map((k) => scoreError(a, q, k, queryError)))
  // log: 3 ulp outside [0.5, 2], absolute 2^-21 inside.
  const lseError =
    topError +
    meanError +
    sumError +
    2 ** -21 +
    6 * EPS_F32 * Math.log(total) +
    EPS_F32 * (Math.abs(lse) + Math.abs(top))
  return { y, lse, yError, lseError }
}

export const floats = (n: number): Float64Array => new Float64Array(n)

/** Views into the packed projection of a call. */
export function packedViews(a: HeadAttributes, qkv: Float64Array) {
  const width = packedWidth(a)
  const group = a.heads / a.kv_heads
  const at = (row: number, head: number): Vec => ({ data: qkv, at: row * width + head * a.head_dim })
  return {
    query: (row: number, head: number) => at(row, head),
    /** Key that query head `head` sees in `row`. */
    key: (row: number, head: number) => at(row, a.heads + Math.floor(head / group)),
    value: (row: number, head: number) => at(row, a.heads + a.kv_heads + Math.floor(head / group)),
  }
}

export interface DenseAttributes extends ScoreAttributes {
  readonly sequence: number
  readonly causal: boolean
  /** Format of the result where it is not f32: that of qkv, so that activations between two products stay in 16 bits. */
  readonly output?: 'f16' | 'bf16' | undefined
}

export const denseSchema = {
  ...scoreSchema,
  sequence: z.int().min(1),
  causal: z.boolean().default(true),
  output: z.enum(['f16', 'bf16']).optional(),
}

/** Rows that query row `t` attends, ascending. */
export function visibleRows(a: DenseAttributes, documents: Float64Array | undefined, t: number): number[] {
  const start = t - (t % a.sequence)
  const out: number[] = []
  for (let u = start; u < start + a.sequence; u++) {
    if (a.causal && u > t) break
    if (a.window > 0 && u + a.window <= t) continue
    if (documents && (documents[u] !== documents[t] || documents[t] === PADDING)) continue
    out.push(u)
  }
  return out
}

/** Pairs of query and key that a dense call visits, without documents. */
export function densePairs(a: DenseAttributes, rows: number): number {
  let pairs = 0
  for (let t = 0; t < a.sequence; t++) {
    const last = a.causal ? t : a.sequence - 1
    const first = a.window > 0 ? Math.max(0, t + 1 - a.window) : 0
    pairs += last - first + 1
  }
  return pairs * (rows / a.sequence)
}

/** Checks a dense call and returns its number of rows. */
export function checkDense(op: string, a: DenseAttributes, inputs: OpCall['inputs']): number {
  const rows = checkPacked(op, a, inputs.qkv!.shape)
  check(
    rows % a.sequence === 0,
    'invalid_shape',
    () => `${op}: qkv must have a multiple of sequence = ${a.sequence} rows, got ${rows}`,
  )
  if (inputs.documents) checkShape(op, 'documents', inputs.documents.shape, [rows])
  const { format } = inputs.qkv!
  check(
    !a.output || a.output === format,
    'unsupported',
    () => `${op}: the result can be f32 or the format of qkv, ${format}, not ${a.output}`,
  )
  return rows
}

/** Softmax rows of all queries of a dense call. */
export function* denseRows(
  { attrs: a, inputs: { qkv } }: OpCall<DenseAttributes>,
  inputs: Ports<Float64Array>,
) {
  const rows = qkv!.shape[0]!
  const { query, key, value } = packedViews(a, inputs.qkv!)
  for (let t = 0; t < rows; t++) {
    const visible = visibleRows(a, inputs.documents, t)
    for (let h = 0; h < a.heads; h++)
      yield {
        t,
        h,
        ...softmaxRow(
          a,
          query(t, h),
          visible.map((u) => key(u, h)),
          visible.map((u) => value(u, h)),
          qkv!.format,
        ),
      }
  }
}
