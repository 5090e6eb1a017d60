import { z } from 'zod'
import { check } from '../errors.ts'
import { elementCount, sameShape } from '../tensor/type.ts'
import { normal, uniform, values } from './cases.ts'
import { type CaseInput, defineOp, type Ports } from './contract.ts'
import { EPS_F32, TINY_F32 } from './tolerance.ts'

const STATES = ['param', 'moment1', 'moment2', 'gradient'] as const

/**
 * The hyper input of step t (from 1). The bias corrections use the betas as f32 holds them, as the kernel does:
 * 1 - beta2 = 0.001 would be off by 5e-5 of itself otherwise.
 */
export function adamwHyper(
  rate: number,
  beta1: number,
  beta2: number,
  eps: number,
  decay: number,
  t: number,
): number[] {
  return [rate, beta1, beta2, eps, decay, 1 - Math.fround(beta1) ** t, 1 - Math.fround(beta2) ** t, 0]
}

type AdamWAttributes = {
  /** The first element that takes the second row of hyper: two ranges that decay differently are one launch. */
  boundary?: number | undefined
}

/** What a gradient is multiplied by so that the norm of all of them is at most `limit`; 0 or less is off. */
export const clipFactor = (norm: number, limit: number): number =>
  limit > 0 ? Math.min(1, limit / (norm + 1e-6)) : 1

/**
 * One AdamW step over a range of elements, all f32 [n], in place. hyper f32 [8]: learning rate, beta1, beta2,
 * eps (> 0), weight decay, 1 - beta1^t, 1 - beta2^t, 0. The bias corrections come from the host, so that the
 * step number never passes through f32. With the norm of all gradients and a limit, gradients are clipped on their way.
 */
export const adamw = defineOp<AdamWAttributes>({
  name: 'adamw',
  summary:
    'm = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p = p - lr wd p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps); with a limit above 0, g = gradient * min(1, limit / (norm + 1e-6))',
  source:
    'Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019; clipping as torch.nn.utils.clip_grad_norm_',
  inputs: {
    param: { doc: '[n]', formats: ['f32'] },
    moment1: { doc: '[n]', formats: ['f32'] },
    moment2: { doc: '[n], not negative', formats: ['f32'] },
    gradient: { doc: '[n]', formats: ['f32'] },
    hyper: { doc: '[8]; [2, 8] with `boundary`', formats: ['f32'] },
    norm: { doc: '[1]', formats: ['f32'], optional: true },
    limit: { doc: '[1], where there is a norm', formats: ['f32'], optional: true },
  },
  outputs: {
    param_out: { doc: '[n]', formats: ['f32'] },
    moment1_out: { doc: '[n]', formats: ['f32'] },
    moment2_out: { doc: '[n]', formats: ['f32'] },
  },
  attributes: z.strictObject({ boundary: z.number().int().nonnegative().multipleOf(64).optional() }),
  infer({ boundary }, inputs) {
    const { shape } = inputs.param!
    check(shape.length === 1, 'invalid_shape', () => `adamw: param must be [n], got [${shape}]`)
    for (const port of STATES)
      check(
        sameShape(inputs[port]!.shape, shape),
        'invalid_shape',
        () => `adamw: ${port} must be [${shape}] like param, got [${inputs[port]!.shape}]`,
      )
    const rows = boundary === undefined ? [8] : [2, 8]
    check(
      sameShape(inputs.hyper!.shape, rows),
      'invalid_shape',
      () => `adamw: hyper must be [${rows}], got [${inputs.hyper!.shape}]`,
    )
    check(
      !inputs.norm === !inputs.limit,
      'invalid_argument',
      'adamw: a norm needs a limit, and a limit a norm; give both or neither',
    )
    for (const port of ['norm', 'limit'])
      check(
        !inputs[port] || sameShape(inputs[port].shape, [1]),
        'invalid_shape',
        () => `adamw: ${port} must be [1], got [${inputs[port]!.shape}]`,
      )
    return { param_out: inputs.param!, moment1_out: inputs.moment1!, moment2_out: inputs.moment2! }
  },
  inPlace: { param_out: 'param', moment1_out: 'moment1', moment2_out: 'moment2' },
  gradient: { none: 'the optimizer is not differentiated' },
  reference({ attrs }, inputs) {
    const { param, moment1, moment2 } = inputs as Record<string, Float64Array>
    const g = clipped(inputs)
    const hyper = hyperAt(attrs, inputs)
    const m = moment1!.map((x, i) => hyper(i).beta1 * x + (1 - hyper(i).beta1) * g[i]!)
    const v = moment2!.map((x, i) => hyper(i).beta2 * x + (1 - hyper(i).beta2) * g[i]! ** 2)
    const p = param!.map((x, i) => {
      const { rate, eps, decay, correction1, correction2 } = hyper(i)
      return x - rate * decay * x - (rate * (m[i]! / correction1)) / (Math.sqrt(v[i]! / correction2) + eps)
    })
    return { param_out: p, moment1_out: m, moment2_out: v }
  },
  // Clipping: norm + 1e-6 (two roundings: the constant, the sum), division 2.5 ulp, product; a factor may be 1 on one
  // side and a rounding below on the other. Moments: 1 - beta, up to two products and the sum round once each, and the
  // stored value. Parameter: the moment's error, two divisions (2.5 ulp each), a root (1 / inverseSqrt: 4.5 ulp; errors
  // of v count half) and three more roundings, all relative to the update; the decay two roundings; the sums one each.
  tolerance({ attrs }, inputs, expected) {
    const { param, moment1, moment2, norm } = inputs as Record<string, Float64Array>
    const gradient = clipped(inputs)
    const hyper = hyperAt(attrs, inputs)
    const clipping = norm ? 8 : 0
    const moment1Error = (i: number): number => {
      const { beta1 } = hyper(i)
      const added = Math.abs((1 - beta1) * gradient[i]!)
      return EPS_F32 * (4 * Math.abs(beta1 * moment1![i]!) + (4 + clipping) * added) + 2 * TINY_F32
    }
    const moment2Error = (i: number): number => {
      const { beta2 } = hyper(i)
      const added = (1 - beta2) * gradient[i]! ** 2
      return EPS_F32 * (5 * beta2 * moment2![i]! + (5 + 2 * clipping) * added) + 2 * TINY_F32
    }
    return {
      moment1_out: moment1Error,
      moment2_out: moment2Error,
      param_out: (i) => {
        const { rate, eps, decay, correction1, correction2 } = hyper(i)
        const v = expected.moment2_out![i]! / correction2
        const root = Math.sqrt(v)
        const denominator = root + eps
        const update = Math.abs((rate * expected.moment1_out![i]!) / correction1 / denominator)
        // A v that is tiny may be flushed to zero as a whole; otherwise the root halves its relative error.
        const rootError =
          Math.min(
            Math.sqrt(moment2Error(i) / correction2),
            moment2Error(i) / correction2 / (2 * root + TINY_F32),
          ) +
          12 * EPS_F32 * root
        return (
          (rate * moment1Error(i)) / correction1 / denominator +
          (update * rootError) / denominator +
          14 * EPS_F32 * update +
          3 * EPS_F32 * Math.abs(rate * decay * param![i]!) +
          3 * EPS_F32 * Math.abs(param![i]!) +
          2 * TINY_F32
        )
      },
    }
  },
  flops: ({ inputs }) => 14 * elementCount(inputs.param!.shape),
  cases: [
    { name: 'one', attrs: {}, inputs: states(1, 1, adamwHyper(1e-3, 0.9, 0.999, 1e-8, 0.01, 1)) },
    {
      name: 'prime',
      attrs: {},
      inputs: states(257, 1, adamwHyper(1e-3, 0.9, 0.95, 1e-8, 0.1, 7)),
    },
    { name: 'range', attrs: {}, inputs: states(4096, 0.02, adamwHyper(6e-4, 0.9, 0.95, 1e-8, 0.1, 100000)) },
    {
      name: 'first_step',
      attrs: {},
      inputs: {
        ...states(64, 1, adamwHyper(1e-2, 0.9, 0.999, 1e-8, 0, 1)),
        moment1: values([64], [0]),
        moment2: values([64], [0]),
      },
    },
    {
      name: 'zero_gradient',
      attrs: {},
      inputs: {
        ...states(12, 1, adamwHyper(1e-3, 0.9, 0.999, 1e-8, 0.01, 1)),
        moment1: values([12], [0]),
        moment2: values([12], [0]),
        gradient: values([12], [0]),
      },
    },
    { name: 'large_magnitude', attrs: {}, inputs: states(68, 1e6, adamwHyper(1, 0.5, 0.75, 1e-6, 0.5, 3)) },
    {
      name: 'tiny_gradient',
      attrs: {},
      inputs: {
        ...states(20, 1e-22, adamwHyper(1e-3, 0.9, 0.999, 1e-8, 0, 1)),
        param: normal([20]),
        moment2: values([20], [0]),
      },
    },
    {
      name: 'ranges',
      attrs: { boundary: 192 },
      inputs: {
        ...states(323, 1, adamwHyper(1e-3, 0.9, 0.95, 1e-8, 0.1, 7)),
        hyper: values(
          [2, 8],
          [...adamwHyper(1e-3, 0.9, 0.95, 1e-8, 0.1, 7), ...adamwHyper(2e-3, 0.8, 0.9, 1e-6, 0, 7)],
        ),
        norm: values([1], [20]),
        limit: values([1], [1]),
      },
    },
    {
      name: 'below_limit',
      attrs: { boundary: 64 },
      inputs: {
        ...states(64, 0.1, adamwHyper(1e-3, 0.9, 0.95, 1e-8, 0.1, 3)),
        hyper: values(
          [2, 8],
          [...adamwHyper(1e-3, 0.9, 0.95, 1e-8, 0.1, 3), ...adamwHyper(1e-3, 0.9, 0.95, 1e-8, 0, 3)],
        ),
        norm: values([1], [0.9]),
        limit: values([1], [1]),
      },
    },
    {
      name: 'clip_off',
      attrs: {},
      inputs: {
        ...states(12, 1, adamwHyper(1e-3, 0.9, 0.95, 1e-8, 0.1, 3)),
        norm: values([1], [8]),
        limit: values([1], [0]),
      },
    },
  ],
})

/** Gradients as they count. */
function clipped({ gradient, norm, limit }: Ports<Float64Array>): Float64Array {
  const factor = norm ? clipFactor(norm[0]!, limit![0]!) : 1
  return gradient!.map((g) => g * factor)
}

/** The hyperparameters of each element. */
function hyperAt({ boundary = Number.POSITIVE_INFINITY }: AdamWAttributes, { hyper }: Ports<Float64Array>) {
  const rowOf = (first: number) => {
    const [rate, beta1, beta2, eps, decay, correction1, correction2] = hyper!.subarray(
      first,
      first + 7,
    ) as unknown as [number, number, number, number, number, number, number]
    return { rate, beta1, beta2, eps, decay, correction1, correction2 }
  }
  const [before, behind] = [rowOf(0), rowOf(boundary === Number.POSITIVE_INFINITY ? 0 : 8)]
  return (i: number): typeof before => (i < boundary ? before : behind)
}

function states(n: number, scale: number, hyper: readonly number[]): Record<string, CaseInput> {
  return {
    param: normal([n], scale),
    moment1: normal([n], scale),
    moment2: uniform([n], 0, scale ** 2),
    gradient: normal([n], scale),
    hyper: values([8], hyper),
  }
}
