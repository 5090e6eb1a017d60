import { z } from 'zod'
import { check } from '../errors.ts'
import { lastDim, sameShape, type TensorType, tensorType } from '../tensor/type.ts'
import { integers, normal, uniform, values } from './cases.ts'
import { type Case, defineOp, type OpCall, type Ports, type Tolerance } from './contract.ts'
import { logSumExp, logSumExpError } from './cross_entropy.ts'
import { EPS_F32, expError, roundingError, rowNorms, storedIn, sumDepth, TINY_F32 } from './tolerance.ts'

// The loss of a language model's last product without its logits: of T x V of them `columns` columns exist at a time,
// and the gradients make them anew. With V = 128,256 a row of logits is 0.5 MB, where its x has 8 KB.
const source = 'Wijmans et al. 2024, Cut Your Losses in Large-Vocabulary Language Models, arXiv 2411.09009'

export interface Columns {
  /** Columns of the logits that exist at a time, a multiple of 128; default: what the backend has room for. */
  columns?: number | undefined
}

export interface WithOutput extends Columns {
  output?: 'f16' | 'bf16' | undefined
}

const columns = z.number().int().positive().multipleOf(128).optional()

const operands = {
  x: { doc: '[T, K]', formats: ['f32', 'f16', 'bf16'] },
  w: { doc: '[V, K], the format of x where that has 16 bits', formats: ['f32', 'f16', 'bf16'] },
  targets: { doc: '[T]', formats: ['u32'] },
  weights: { doc: '[T]', formats: ['f32'] },
} as const
const backwardOperands = {
  dloss: { doc: '[T]', formats: ['f32'] },
  ...operands,
  lse: { doc: '[T], as the forward pass gave it', formats: ['f32'] },
} as const

/** Rows in which every part of [n, 2, T] numbers begins at an aligned offset. */
const ROW_UNIT = 32

function checkOperands(op: string, inputs: Ports<TensorType>, rowPorts: readonly string[]): void {
  const { x, w } = inputs
  check(
    x!.shape.length === 2 && w!.shape.length === 2 && lastDim(x!.shape) === lastDim(w!.shape),
    'invalid_shape',
    () => `${op}: x and w must be [T, K] and [V, K], got [${x!.shape}] and [${w!.shape}]`,
  )
  const [rows, depth] = x!.shape as [number, number]
  check(
    rows % ROW_UNIT === 0 && depth % 2 === 0,
    'invalid_shape',
    () => `${op}: x must have a multiple of ${ROW_UNIT} rows and an even width, got [${x!.shape}]`,
  )
  check(
    x!.format === 'f32' || w!.format === x!.format,
    'unsupported',
    () => `${op}: x in ${x!.format} needs w in ${x!.format}, got ${w!.format}`,
  )
  for (const port of rowPorts)
    check(
      sameShape(inputs[port]!.shape, [rows]),
      'invalid_shape',
      () => `${op}: ${port} must be [${rows}], one per row of x, got [${inputs[port]!.shape}]`,
    )
}

interface Logits {
  /** By row. */
  readonly rows: readonly Float64Array[]
  /** Error of a logit as a product in f32. */
  readonly error: (row: number, column: number) => number
}

function logitsOf({ inputs }: OpCall, { x, w }: Ports<Float64Array>): Logits {
  const [vocab, depth] = inputs.w!.shape as [number, number]
  const [xs, ws] = [rowNorms(x!, depth), rowNorms(w!, depth)]
  const rows = Array.from({ length: x!.length / depth }, (_, t) =>
    Float64Array.from({ length: vocab }, (_, c) => {
      let sum = 0
      for (let k = 0; k < depth; k++) sum += x![t * depth + k]! * w![c * depth + k]!
      return sum
    }),
  )
  const error = (t: number, c: number): number => (depth + 2) * EPS_F32 * xs[t]! * ws[c]! + TINY_F32 * depth
  return { rows, error }
}

/** Longest chain of additions over V columns, as parts of at least 128 that are joined one by one. */
const vocabularyDepth = (vocab: number): number => sumDepth(vocab) + Math.ceil(vocab / 128)

/** Weighted negative log likelihood of each row's target among logits x w^T, as cross_entropy has it of stored ones. */
export const linear_cross_entropy = defineOp<Columns>({
  name: 'linear_cross_entropy',
  summary: 'lse[t] = log sum_c exp(x[t,:].w[c,:]); loss[t] = weights[t] * (lse[t] - x[t,:].w[targets[t],:])',
  source,
  inputs: operands,
  outputs: { loss: { doc: '[T]', formats: ['f32'] }, lse: { doc: '[T], no gradient', formats: ['f32'] } },
  attributes: z.strictObject({ columns }),
  infer(_attrs, inputs) {
    checkOperands('linear_cross_entropy', inputs, ['targets', 'weights'])
    const rows = inputs.x!.shape[0]!
    return { loss: tensorType('f32', rows), lse: tensorType('f32', rows) }
  },
  gradient: {
    x: {
      input: ({ g, attrs, inputs, outputs, dOutputs }) =>
        g.op(
          'linear_cross_entropy_backward_input',
          { ...attrs, ...(inputs.x!.type.format === 'f32' ? {} : { output: inputs.x!.type.format }) },
          { ...inputs, lse: outputs.lse, dloss: dOutputs.loss },
        ).dx!,
    },
    w: {
      weight: ({ g, attrs, inputs, outputs, dOutputs }, accumulator) =>
        g.op('linear_cross_entropy_backward_weight', attrs, {
          accumulator,
          ...inputs,
          lse: outputs.lse,
          dloss: dOutputs.loss,
        }).dw!,
    },
  },
  reference(call, inputs) {
    const { rows } = logitsOf(call, inputs)
    const lse = Float64Array.from(rows, logSumExp)
    const loss = lse.map((value, t) => {
      const weight = inputs.weights![t]!
      return weight === 0 ? 0 : weight * (value - rows[t]![inputs.targets![t]!]!)
    })
    return { loss, lse }
  },
  // The error of a logit is one of lse at most, weighted by probability, and one of the target's logit.
  tolerance(call, inputs, expected) {
    const { rows, error } = logitsOf(call, inputs)
    const depth = vocabularyDepth(call.inputs.w!.shape[0]!)
    const products = rows.map((row, t) => row.reduce((most, _, c) => Math.max(most, error(t, c)), 0))
    const errors = expected.lse!.map((lse, t) => products[t]! + logSumExpError(rows[t]!, lse, depth))
    return {
      lse: (t) => errors[t]!,
      loss: (t) =>
        Math.abs(inputs.weights![t]!) * (errors[t]! + products[t]!) +
        3 * EPS_F32 * Math.abs(expected.loss![t]!),
    }
  },
  flops: ({ inputs }) => 2 * inputs.x!.shape[0]! * inputs.w!.shape[0]! * (inputs.w!.shape[1]! + 2),
  cases: [
    {
      name: 'whole',
      attrs: {},
      inputs: {
        x: normal([32, 8]),
        w: normal([37, 8]),
        targets: integers([32], 0, 37),
        weights: uniform([32], 0, 1),
      },
    },
    {
      name: 'parts',
      attrs: { columns: 128 },
      inputs: {
        x: normal([32, 16]),
        w: normal([300, 16], 0.5),
        targets: integers([32], 0, 300),
        weights: uniform([32], 0, 1),
      },
    },
    {
      name: 'ignored',
      attrs: { columns: 128 },
      inputs: {
        x: normal([32, 6]),
        w: normal([257, 6], 0.5, 'bf16'),
        targets: values([32], [3, 0xffffffff, 256, 128], 'u32'),
        weights: values([32], [0.5, 0, 2, 1]),
      },
    },
    {
      name: 'both_bf16',
      attrs: { columns: 256 },
      inputs: {
        x: normal([64, 72], 1, 'bf16'),
        w: normal([520, 72], 0.2, 'bf16'),
        targets: integers([64], 0, 520),
        weights: values([64], [0.25]),
      },
    },
    {
      name: 'both_f16',
      attrs: {},
      inputs: {
        x: normal([32, 40], 1, 'f16'),
        w: normal([96, 40], 0.2, 'f16'),
        targets: integers([32], 0, 96),
        weights: values([32], [1]),
      },
    },
  ],
})

interface DLogits {
  readonly values: readonly Float64Array[]
  /** As they are computed in f32, and rounded to 16 bits where x has them. */
  readonly error: (row: number, column: number) => number
}

function dLogitsOf(call: OpCall, inputs: Ports<Float64Array>): DLogits {
  const { rows, error } = logitsOf(call, inputs)
  const { dloss, weights, lse, targets } = inputs
  const scale = (t: number): number => dloss![t]! * weights![t]!
  const softmax = (t: number, c: number): number => Math.exp(rows[t]![c]! - lse![t]!)
  const dlogits = rows.map((row, t) =>
    row.map((_, c) => scale(t) * (softmax(t, c) - (c === targets![t] ? 1 : 0))),
  )
  const { format } = call.inputs.x!
  return {
    values: dlogits,
    error(t, c) {
      const d = rows[t]![c]! - lse![t]!
      const value = Math.abs(dlogits[t]![c]!)
      // exp turns the error of its argument, the logit's, into a relative one.
      const inF32 =
        Math.abs(scale(t)) * (softmax(t, c) * (expError(d) + Math.expm1(error(t, c))) + TINY_F32) +
        4 * EPS_F32 * value +
        TINY_F32
      return inF32 + roundingError(format, value + inF32)
    },
  }
}

/** The smallest shapes that have several parts; lse lies a little above the largest logit. */
const backwardCases = (accumulates: boolean): Case<WithOutput>[] => {
  const inputs = (rows: number, vocab: number, depth: number, format: 'f32' | 'f16' | 'bf16') => ({
    ...(accumulates ? { accumulator: normal([vocab, depth]) } : {}),
    dloss: normal([rows]),
    x: normal([rows, depth], 1, format),
    w: normal([vocab, depth], 0.3, format),
    targets: values([rows], [3, 0xffffffff, vocab - 1, 130 % vocab], 'u32'),
    weights: values([rows], [0.5, 0, 2, 1]),
    lse: uniform([rows], 5, 7),
  })
  const output = (format: 'f16' | 'bf16') => (accumulates ? {} : { output: format })
  return [
    { name: 'whole', attrs: {}, inputs: inputs(32, 37, 8, 'f32') },
    { name: 'parts', attrs: { columns: 128 }, inputs: inputs(32, 300, 16, 'f32') },
    { name: 'both_bf16', attrs: { columns: 256, ...output('bf16') }, inputs: inputs(64, 520, 72, 'bf16') },
    { name: 'both_f16', attrs: output('f16'), inputs: inputs(32, 96, 40, 'f16') },
    { name: 'both_bf16_parts', attrs: { columns: 128 }, inputs: inputs(32, 260, 24, 'bf16') },
  ]
}

/** Three products' worth: the logits again, and one with what becomes of them. */
const backwardFlops = ({ inputs }: OpCall): number =>
  4 * inputs.x!.shape[0]! * inputs.w!.shape[0]! * (inputs.w!.shape[1]! + 1)

/** Gradient of linear_cross_entropy for x. */
export const linear_cross_entropy_backward_input = defineOp<WithOutput>({
  name: 'linear_cross_entropy_backward_input',
  summary:
    'dx[t,:] = sum_c dlogits[t,c] w[c,:], dlogits[t,c] = dloss[t] * weights[t] * (exp(x[t,:].w[c,:] - lse[t]) - (c == targets[t]))',
  source,
  inputs: backwardOperands,
  outputs: { dx: { doc: '[T, K], f32 or the format of x', formats: ['f32', 'f16', 'bf16'] } },
  attributes: z.strictObject({ columns, output: z.enum(['f16', 'bf16']).optional() }),
  infer({ output }, inputs) {
    const op = 'linear_cross_entropy_backward_input'
    checkOperands(op, inputs, ['targets', 'weights', 'lse', 'dloss'])
    check(
      !output || output === inputs.x!.format,
      'unsupported',
      () => `${op}: dx can be f32 or the format of x, ${inputs.x!.format}, not ${output}`,
    )
    return { dx: tensorType(output ?? 'f32', ...inputs.x!.shape) }
  },
  gradient: { none: 'second derivatives are not built' },
  reference(call, inputs) {
    const { values } = dLogitsOf(call, inputs)
    const depth = lastDim(call.inputs.w!.shape)
    const dx = new Float64Array(values.length * depth)
    for (const [t, row] of values.entries())
      for (const [c, d] of row.entries())
        for (let k = 0; k < depth; k++) dx[t * depth + k]! += d * inputs.w![c * depth + k]!
    return { dx }
  },
  tolerance(call, inputs, { dx }) {
    const { values, error } = dLogitsOf(call, inputs)
    const depth = lastDim(call.inputs.w!.shape)
    const inF32: Tolerance = (i) => {
      const [t, k] = [Math.floor(i / depth), i % depth]
      const row = values[t]!
      const terms = row.length + Math.ceil(row.length / 128) + 2
      return row.reduce((sum, d, c) => {
        const [e, w] = [error(t, c), Math.abs(inputs.w![c * depth + k]!)]
        return sum + e * w + terms * EPS_F32 * (Math.abs(d) + e) * w + TINY_F32
      }, 0)
    }
    return { dx: storedIn(call.attrs.output ?? 'f32', inF32, dx!) }
  },
  flops: backwardFlops,
  cases: backwardCases(false),
})

/** Gradient of linear_cross_entropy for w, added to an accumulator in place. */
export const linear_cross_entropy_backward_weight = defineOp<Columns>({
  name: 'linear_cross_entropy_backward_weight',
  summary:
    'dw[c,:] = accumulator[c,:] + sum_t dlogits[t,c] x[t,:], dlogits as in linear_cross_entropy_backward_input',
  source,
  inputs: { accumulator: { doc: '[V, K], overwritten', formats: ['f32'] }, ...backwardOperands },
  outputs: { dw: { doc: '[V, K]', formats: ['f32'] } },
  inPlace: { dw: 'accumulator' },
  attributes: z.strictObject({ columns }),
  infer(_attrs, inputs) {
    const op = 'linear_cross_entropy_backward_weight'
    checkOperands(op, inputs, ['targets', 'weights', 'lse', 'dloss'])
    const { accumulator, w } = inputs
    check(
      sameShape(accumulator!.shape, w!.shape),
      'invalid_shape',
      () => `${op}: accumulator must be [${w!.shape}], got [${accumulator!.shape}]`,
    )
    return { dw: tensorType('f32', ...w!.shape) }
  },
  gradient: { none: 'second derivatives are not built' },
  reference(call, inputs) {
    const { values } = dLogitsOf(call, inputs)
    const depth = lastDim(call.inputs.w!.shape)
    const dw = Float64Array.from(inputs.accumulator!)
    for (const [t, row] of values.entries())
      for (const [c, d] of row.entries())
        for (let k = 0; k < depth; k++) dw[c * depth + k]! += d * inputs.x![t * depth + k]!
    return { dw }
  },
  tolerance(call, inputs, { dw }) {
    const { values, error } = dLogitsOf(call, inputs)
    const depth = lastDim(call.inputs.w!.shape)
    return {
      dw(i) {
        const [c, k] = [Math.floor(i / depth), i % depth]
        const sum = values.reduce((sum, row, t) => {
          const [e, x] = [error(t, c), Math.abs(inputs.x![t * depth + k]!)]
          return sum + e * x + (values.length + 2) * EPS_F32 * (Math.abs(row[c]!) + e) * x + TINY_F32
        }, 0)
        return sum + EPS_F32 * (Math.abs(inputs.accumulator![i]!) + Math.abs(dw![i]!))
      },
    }
  },
  flops: backwardFlops,
  cases: backwardCases(true),
})
