import { z } from 'zod'
import { check } from '../errors.ts'
import { lastDim, sameShape, tensorType } from '../tensor/type.ts'
import { integers, normal, uniform, values } from './cases.ts'
import { defineOp } from './contract.ts'
import {
  checkRows,
  type FirstTarget,
  firstTarget,
  logitsFormats,
  logSumExp,
  logSumExpError,
} from './cross_entropy.ts'
import { EPS_F32, sumDepth, TINY_F32 } from './tolerance.ts'

// Cross entropy whose vocabulary is split over ranks: every rank reduces its columns to two numbers a row, and all
// ranks' numbers together give the loss. T rows of n parts are 8 n T bytes on the wire, whatever the vocabulary.
const source = 'Megatron-LM, arXiv 1909.08053, section 3'
const none = 'cross_entropy_parallel has it: cross_entropy_backward of the own columns with the joined lse'

/** Values of one row of a [rows, width] array. */
const rowOf = (x: Float64Array, width: number, row: number): Float64Array =>
  x.subarray(row * width, (row + 1) * width)

/**
 * What one part of the vocabulary gives to the cross entropy of each row: its log-sum-exp, and the target's logit.
 * Column c is the target `first` + c; a target that is no column here, whatever its value, is in another part and gives 0.
 */
export const cross_entropy_shard = defineOp<FirstTarget>({
  name: 'cross_entropy_shard',
  summary:
    'parts[0,t] = log sum_c exp(logits[t,c]); parts[1,t] = logits[t,targets[t] - first], 0 where there is no such column',
  source,
  inputs: { logits: { doc: '[T, V]', formats: logitsFormats }, targets: { doc: '[T]', formats: ['u32'] } },
  outputs: { parts: { doc: '[2, T]', formats: ['f32'] } },
  attributes: firstTarget,
  infer(_attrs, inputs) {
    checkRows('cross_entropy_shard', inputs, ['targets'])
    return { parts: tensorType('f32', 2, inputs.logits!.shape[0]!) }
  },
  gradient: { none },
  reference({ attrs: { first = 0 }, inputs }, { logits, targets }) {
    const width = lastDim(inputs.logits!.shape)
    const rows = targets!.length
    const parts = new Float64Array(2 * rows)
    for (let t = 0; t < rows; t++) {
      const row = rowOf(logits!, width, t)
      parts[t] = logSumExp(row)
      parts[rows + t] = row[targets![t]! - first] ?? 0
    }
    return { parts }
  },
  // The target's logit is copied (a subnormal one may be flushed).
  tolerance({ inputs }, { logits, targets }, expected) {
    const width = lastDim(inputs.logits!.shape)
    const rows = targets!.length
    const errors = Float64Array.from({ length: rows }, (_, t) =>
      logSumExpError(rowOf(logits!, width, t), expected.parts![t]!, sumDepth(width)),
    )
    return { parts: (i) => (i < rows ? errors[i]! : TINY_F32) }
  },
  flops: ({ inputs }) => 4 * inputs.logits!.shape[0]! * inputs.logits!.shape[1]!,
  cases: [
    {
      name: 'one',
      attrs: {},
      inputs: { logits: normal([1, 1]), targets: values([1], [0], 'u32') },
    },
    {
      name: 'prime',
      attrs: {},
      inputs: { logits: normal([7, 37], 2), targets: integers([7], 0, 74) },
    },
    {
      name: 'elsewhere',
      attrs: {},
      inputs: {
        logits: normal([6, 16], 2),
        targets: values([6], [3, 0xffffffff, 15, 16, 0xfffffff0, 0], 'u32'),
      },
    },
    {
      name: 'past_tile',
      attrs: {},
      inputs: { logits: normal([3, 257], 4), targets: values([3], [256, 257, 0], 'u32') },
    },
    {
      name: 'bf16',
      attrs: {},
      inputs: { logits: normal([3, 260], 3, 'bf16'), targets: values([3], [259, 260, 0], 'u32') },
    },
    {
      name: 'wide',
      attrs: {},
      inputs: { logits: normal([4, 5000], 3), targets: integers([4], 0, 10000) },
    },
    {
      name: 'large_magnitude',
      attrs: {},
      inputs: { logits: normal([3, 64], 1e4), targets: integers([3], 0, 64) },
    },
    {
      name: 'later_part',
      attrs: { first: 256 },
      inputs: {
        logits: normal([5, 128], 2),
        targets: values([5], [256, 383, 384, 255, 0xffffffff], 'u32'),
      },
    },
  ],
})

/**
 * Loss and log-sum-exp of each row from what all n parts of the vocabulary gave, summed in the order of the parts.
 * Rows of weight 0 give loss 0; of every other row one part has the target.
 */
export const cross_entropy_join = defineOp<Record<string, never>>({
  name: 'cross_entropy_join',
  summary: 'lse[t] = log sum_p exp(parts[p,0,t]); loss[t] = weights[t] * (lse[t] - sum_p parts[p,1,t])',
  source,
  inputs: { parts: { doc: '[n, 2, T]', formats: ['f32'] }, weights: { doc: '[T]', formats: ['f32'] } },
  outputs: { loss: { doc: '[T]', formats: ['f32'] }, lse: { doc: '[T]', formats: ['f32'] } },
  attributes: z.strictObject({}),
  infer(_attrs, { parts, weights }) {
    const { shape } = parts!
    check(
      shape.length === 3 && shape[1] === 2,
      'invalid_shape',
      () => `cross_entropy_join: parts must be [n, 2, T], got [${shape}]`,
    )
    const rows = shape[2]!
    check(
      sameShape(weights!.shape, [rows]),
      'invalid_shape',
      () => `cross_entropy_join: weights must be [${rows}], as parts is [${shape}], got [${weights!.shape}]`,
    )
    return { loss: tensorType('f32', rows), lse: tensorType('f32', rows) }
  },
  gradient: { none },
  reference({ inputs }, { parts, weights }) {
    const rows = weights!.length
    const lse = new Float64Array(rows)
    const loss = lse.map((_, t) => {
      const { sums, logits } = ofRow(parts!, inputs.parts!.shape[0]!, rows, t)
      lse[t] = logSumExp(sums)
      return weights![t] === 0 ? 0 : weights![t]! * (lse[t]! - logits.reduce((sum, v) => sum + v, 0))
    })
    return { loss, lse }
  },
  // n terms in one chain, the first added to 0; so the logits, though of one row all but one are 0. Then lse - logit,
  // the weight and the stored value round once each.
  tolerance({ inputs }, { parts, weights }, expected) {
    const [n, rows] = [inputs.parts!.shape[0]!, weights!.length]
    const errors = expected.lse!.map((lse, t) => logSumExpError(ofRow(parts!, n, rows, t).sums, lse, n))
    const chosen = errors.map(
      (_, t) => n * EPS_F32 * ofRow(parts!, n, rows, t).logits.reduce((sum, v) => sum + Math.abs(v), 0),
    )
    return {
      lse: (t) => errors[t]!,
      loss: (t) =>
        Math.abs(weights![t]!) * (errors[t]! + chosen[t]!) + 3 * EPS_F32 * Math.abs(expected.loss![t]!),
    }
  },
  flops: ({ inputs }) => 5 * inputs.parts!.shape[0]! * inputs.parts!.shape[2]!,
  cases: [
    {
      name: 'one',
      attrs: {},
      inputs: { parts: normal([1, 2, 1]), weights: values([1], [1]) },
    },
    {
      name: 'two',
      attrs: {},
      inputs: { parts: normal([2, 2, 37], 2), weights: uniform([37], 0, 1) },
    },
    {
      name: 'ignored',
      attrs: {},
      inputs: { parts: normal([3, 2, 8], 2), weights: values([8], [0, 0.5, 2]) },
    },
    {
      name: 'past_tile',
      attrs: {},
      inputs: { parts: normal([4, 2, 260], 5), weights: values([260], [0.25]) },
    },
    {
      name: 'many',
      attrs: {},
      inputs: { parts: normal([72, 2, 5], 3, 'f32', 10), weights: values([5], [1]) },
    },
    {
      name: 'large_magnitude',
      attrs: {},
      inputs: { parts: normal([5, 2, 12], 1e4), weights: values([12], [1e-3]) },
    },
  ],
})

/** What the n parts gave to row t. */
function ofRow(
  parts: Float64Array,
  n: number,
  rows: number,
  t: number,
): { sums: Float64Array; logits: Float64Array } {
  const at = (of: number): Float64Array =>
    Float64Array.from({ length: n }, (_, part) => parts[(2 * part + of) * rows + t]!)
  return { sums: at(0), logits: at(1) }
}
