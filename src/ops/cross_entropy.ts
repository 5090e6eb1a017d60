import { z } from 'zod'
import { check } from '../errors.ts'
import { lastDim, sameShape, type TensorType, tensorType } from '../tensor/type.ts'
import { integers, normal, uniform, values } from './cases.ts'
import { defineOp, type Ports } from './contract.ts'
import { EPS_F32, expError, sumDepth } from './tolerance.ts'

export function checkRows(op: string, inputs: Ports<TensorType>, rowPorts: readonly string[]): void {
  const { shape } = inputs.logits!
  check(shape.length === 2, 'invalid_shape', () => `${op}: logits must be [T, V], got [${shape}]`)
  for (const port of rowPorts)
    check(
      sameShape(inputs[port]!.shape, [shape[0]!]),
      'invalid_shape',
      () =>
        `${op}: ${port} must be [${shape[0]}], one per row of logits [${shape}], got [${inputs[port]!.shape}]`,
    )
}

/** Of a part of the vocabulary: the target that its first column is, 0 where targets count from the part. */
export interface FirstTarget {
  first?: number | undefined
}
const first = z.number().int().positive().max(0xffffffff).optional()
export const firstTarget = z.strictObject({ first })

/** Formats of logits: computed with in f32, whatever they are stored in. */
export const logitsFormats = ['f32', 'f16', 'bf16'] as const

/** log sum exp of some values. */
export function logSumExp(row: Float64Array): number {
  const top = row.reduce((a, b) => Math.max(a, b))
  return top + Math.log(row.reduce((sum, v) => sum + Math.exp(v - top), 0))
}

/**
 * Error budget of log sum exp as top + log(sum of exp(v - top)), with at most `depth` chained additions: the sum's
 * relative error (expError weighted by probability, the additions) is an absolute one after log; log is good to 2^-21
 * below 2 and 3 ulp above; top + log and the stored value round once each.
 */
export function logSumExpError(row: Float64Array, lse: number, depth: number): number {
  const top = row.reduce((a, b) => Math.max(a, b))
  const sum = row.reduce((s, v) => s + Math.exp(v - lse) * expError(v - top), 0) + depth * EPS_F32
  return sum + Math.max(2 ** -21, 6 * EPS_F32 * (lse - top)) + 2 * EPS_F32 * Math.abs(lse)
}

/**
 * Weighted negative log likelihood of each row's target, in nats, and the log-sum-exp its gradient needs.
 * Rows of weight 0 give loss 0 whatever their target; otherwise a target must be below V.
 */
export const cross_entropy = defineOp<Record<string, never>>({
  name: 'cross_entropy',
  summary: 'lse[t] = log sum_c exp(logits[t,c]); loss[t] = weights[t] * (lse[t] - logits[t,targets[t]])',
  inputs: {
    logits: { doc: '[T, V]', formats: logitsFormats },
    targets: { doc: '[T]', formats: ['u32'] },
    weights: { doc: '[T]', formats: ['f32'] },
  },
  outputs: { loss: { doc: '[T]', formats: ['f32'] }, lse: { doc: '[T], no gradient', formats: ['f32'] } },
  attributes: z.strictObject({}),
  infer(_attrs, inputs) {
    checkRows('cross_entropy', inputs, ['targets', 'weights'])
    const rows = inputs.logits!.shape[0]!
    return { loss: tensorType('f32', rows), lse: tensorType('f32', rows) }
  },
  gradient: {
    logits: {
      input: ({ g, inputs, outputs, dOutputs }) =>
        g.op(
          'cross_entropy_backward',
          {},
          {
            dloss: dOutputs.loss,
            logits: inputs.logits,
            lse: outputs.lse,
            targets: inputs.targets,
            weights: inputs.weights,
          },
        ).dlogits!,
    },
  },
  reference({ inputs }, { logits, targets, weights }) {
    const width = lastDim(inputs.logits!.shape)
    const lse = new Float64Array(targets!.length)
    const loss = lse.map((_, t) => {
      const row = logits!.subarray(t * width, (t + 1) * width)
      lse[t] = logSumExp(row)
      return weights![t] === 0 ? 0 : weights![t]! * (lse[t]! - row[targets![t]!]!)
    })
    return { loss, lse }
  },
  // The lse's error, then lse - logit, the weight and the stored value round once each.
  tolerance({ inputs }, { logits, weights }, expected) {
    const width = lastDim(inputs.logits!.shape)
    const errors = expected.lse!.map((lse, t) =>
      logSumExpError(logits!.subarray(t * width, (t + 1) * width), lse, sumDepth(width)),
    )
    return {
      lse: (t) => errors[t]!,
      loss: (t) => Math.abs(weights![t]!) * errors[t]! + 3 * EPS_F32 * Math.abs(expected.loss![t]!),
    }
  },
  flops: ({ inputs }) => 4 * inputs.logits!.shape[0]! * inputs.logits!.shape[1]!,
  cases: [
    {
      name: 'one',
      attrs: {},
      inputs: { logits: normal([1, 1]), targets: values([1], [0], 'u32'), weights: values([1], [1]) },
    },
    {
      name: 'prime',
      attrs: {},
      inputs: { logits: normal([7, 37], 2), targets: integers([7], 0, 37), weights: uniform([7], 0, 1) },
    },
    {
      name: 'ignored',
      attrs: {},
      inputs: {
        logits: normal([6, 16], 2),
        targets: values([6], [3, 0xffffffff, 15, 16], 'u32'),
        weights: values([6], [0.5, 0, 2, 0]),
      },
    },
    {
      name: 'past_tile',
      attrs: {},
      inputs: { logits: normal([3, 257], 4), targets: integers([3], 0, 257), weights: values([3], [1]) },
    },
    {
      name: 'wide',
      attrs: {},
      inputs: { logits: normal([4, 5000], 3), targets: integers([4], 0, 5000), weights: values([4], [0.25]) },
    },
    {
      name: 'large_magnitude',
      attrs: {},
      inputs: { logits: normal([3, 64], 1e4), targets: integers([3], 0, 64), weights: values([3], [1]) },
    },
    {
      name: 'bf16',
      attrs: {},
      inputs: {
        logits: normal([5, 2308], 3, 'bf16'),
        targets: values([5], [2307, 0, 0xffffffff, 1, 2308], 'u32'),
        weights: values([5], [1, 0.5, 0, 2, 0]),
      },
    },
    {
      name: 'f16_odd',
      attrs: {},
      inputs: {
        logits: normal([3, 37], 2, 'f16'),
        targets: integers([3], 0, 37),
        weights: uniform([3], 0, 1),
      },
    },
  ],
})
