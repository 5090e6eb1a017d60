import { z } from 'zod'
import { check, ExactmapError } from '../errors.ts'
import { elementCount, lastDim, sameShape, tensorType } from '../tensor/type.ts'
import { normal, values } from './cases.ts'
import { defineOp } from './contract.ts'
import { EPS_F32, sumDepth, TINY_F32 } from './tolerance.ts'

export interface ReduceAttributes {
  kind: 'sum' | 'mean' | 'max'
  axis: 'last' | 'all'
}

/** Shape without its last dim; a vector leaves [1]. */
const withoutLast = (shape: readonly number[]): readonly number[] =>
  shape.length > 1 ? shape.slice(0, -1) : [1]

/** Elements of x that become one of y. */
export const reduceSpan = ({ axis }: ReduceAttributes, shape: readonly number[]): number =>
  axis === 'last' ? lastDim(shape) : elementCount(shape)

/** Sum, mean or maximum over the last dim (y has the shape without it, a vector gives [1]) or over all ([1]). */
export const reduce = defineOp<ReduceAttributes>({
  name: 'reduce',
  summary: 'y = sum, mean or max of x over its last dim or over all',
  inputs: { x: { doc: '[..., C]', formats: ['f32'] } },
  outputs: { y: { doc: '[...] or [1]', formats: ['f32'] } },
  attributes: z.strictObject({ kind: z.enum(['sum', 'mean', 'max']), axis: z.enum(['last', 'all']) }),
  infer: ({ axis }, { x }) => ({ y: tensorType('f32', ...(axis === 'all' ? [1] : withoutLast(x!.shape))) }),
  gradient: {
    x: {
      input({ g, attrs, inputs, dOutputs }) {
        if (attrs.kind === 'max')
          throw new ExactmapError(
            'unsupported',
            "reduce: kind 'max' has no gradient; use 'sum' or 'mean' where one is needed",
          )
        const { shape } = inputs.x!.type
        const factor = attrs.kind === 'mean' ? 1 / reduceSpan(attrs, shape) : 1
        return g.op('broadcast', { shape: [...shape], factor }, { x: dOutputs.y }).y!
      },
    },
  },
  reference({ attrs, inputs, outputs }, { x }) {
    const span = reduceSpan(attrs, inputs.x!.shape)
    const y = new Float64Array(elementCount(outputs.y!.shape))
    for (let i = 0; i < y.length; i++) {
      const own = x!.subarray(i * span, (i + 1) * span)
      const sum = own.reduce((a, v) => a + v, 0)
      y[i] =
        attrs.kind === 'max' ? own.reduce((a, v) => Math.max(a, v)) : attrs.kind === 'mean' ? sum / span : sum
    }
    return { y }
  },
  // A maximum is one of the elements (a subnormal one may be flushed). A mean is the sum times the rounded 1/span.
  tolerance({ attrs, inputs, outputs }, { x }) {
    const span = reduceSpan(attrs, inputs.x!.shape)
    const size = new Float64Array(elementCount(outputs.y!.shape))
    for (let i = 0; i < x!.length; i++) size[Math.floor(i / span)]! += Math.abs(x![i]!)
    const terms = attrs.kind === 'mean' ? span : 1
    return {
      y: (i) =>
        attrs.kind === 'max' ? TINY_F32 : ((sumDepth(span) + 12) * EPS_F32 * size[i]!) / terms + TINY_F32,
    }
  },
  flops: ({ inputs }) => elementCount(inputs.x!.shape),
  // The cases of kind 'max' have more elements than those that finite differences use, as it has no gradient.
  cases: [
    { name: 'one', attrs: { kind: 'sum', axis: 'last' }, inputs: { x: normal([1]) } },
    { name: 'vector', attrs: { kind: 'mean', axis: 'last' }, inputs: { x: normal([37]) } },
    { name: 'sum_last', attrs: { kind: 'sum', axis: 'last' }, inputs: { x: normal([2, 3, 37]) } },
    { name: 'mean_last', attrs: { kind: 'mean', axis: 'last' }, inputs: { x: normal([5, 64], 1, 'f32', 3) } },
    { name: 'max_last', attrs: { kind: 'max', axis: 'last' }, inputs: { x: normal([7, 67]) } },
    { name: 'max_width_1', attrs: { kind: 'max', axis: 'last' }, inputs: { x: normal([401, 1]) } },
    {
      name: 'max_negative',
      attrs: { kind: 'max', axis: 'last' },
      inputs: { x: values([4, 260], [-3e38, -1e30, -2e38]) },
    },
    { name: 'sum_all', attrs: { kind: 'sum', axis: 'all' }, inputs: { x: normal([3, 5, 7]) } },
    { name: 'mean_all', attrs: { kind: 'mean', axis: 'all' }, inputs: { x: normal([8, 36], 1, 'f32', 1) } },
    { name: 'max_all', attrs: { kind: 'max', axis: 'all' }, inputs: { x: normal([13, 1001], 100) } },
    { name: 'past_span', attrs: { kind: 'sum', axis: 'all' }, inputs: { x: normal([3, 4100]) } },
    { name: 'past_span_odd', attrs: { kind: 'mean', axis: 'all' }, inputs: { x: normal([4097]) } },
    { name: 'large_magnitude', attrs: { kind: 'sum', axis: 'last' }, inputs: { x: normal([3, 100], 1e30) } },
  ],
})

/**
 * y = factor * x, every element of x repeated along y's last dim, or the only element of x everywhere; an x that
 * has y's shape already is only multiplied.
 */
export const broadcast = defineOp<{ shape: number[]; factor: number }>({
  name: 'broadcast',
  summary: 'y[..., c] = factor * x[...], or factor * x[0], or factor * x',
  inputs: { x: { doc: '[...] or [1] or [..., C]', formats: ['f32'] } },
  outputs: { y: { doc: '[..., C]', formats: ['f32'] } },
  attributes: z.strictObject({ shape: z.array(z.int().positive()).min(1), factor: z.number().default(1) }),
  infer({ shape }, { x }) {
    check(
      [withoutLast(shape), [1], shape].some((allowed) => sameShape(x!.shape, allowed)),
      'invalid_shape',
      () =>
        `broadcast: for shape [${shape}] x must be [${withoutLast(shape)}], [1] or [${shape}], got [${x!.shape}]`,
    )
    return { y: tensorType('f32', ...shape) }
  },
  gradient: {
    x: {
      input({ g, attrs, inputs, dOutputs }) {
        const { shape } = inputs.x!.type
        let dx = dOutputs.y!
        if (!sameShape(shape, attrs.shape))
          dx = g.op('reduce', { kind: 'sum', axis: elementCount(shape) === 1 ? 'all' : 'last' }, { x: dx }).y!
        return attrs.factor === 1
          ? dx
          : g.op('broadcast', { shape: [...shape], factor: attrs.factor }, { x: dx }).y!
      },
    },
  },
  reference({ attrs, outputs, inputs }, { x }) {
    const span = elementCount(outputs.y!.shape) / elementCount(inputs.x!.shape)
    return {
      y: Float64Array.from(
        { length: elementCount(outputs.y!.shape) },
        (_, i) => x![Math.floor(i / span)]! * attrs.factor,
      ),
    }
  },
  // The factor is rounded, then the product.
  tolerance: (_call, _inputs, expected) => ({ y: (i) => Math.abs(expected.y![i]!) * 2 * EPS_F32 + TINY_F32 }),
  flops: ({ outputs }) => elementCount(outputs.y!.shape),
  cases: [
    { name: 'one', attrs: { shape: [1], factor: 1 }, inputs: { x: normal([1]) } },
    { name: 'rows', attrs: { shape: [3, 37], factor: 1 }, inputs: { x: normal([3]) } },
    { name: 'factor', attrs: { shape: [3, 37], factor: 1 / 37 }, inputs: { x: normal([3]) } },
    { name: 'same_shape', attrs: { shape: [3, 36], factor: -2.5 }, inputs: { x: normal([3, 36]) } },
    { name: 'rows_even', attrs: { shape: [2, 5, 36], factor: 1 }, inputs: { x: normal([2, 5]) } },
    { name: 'all', attrs: { shape: [7, 44], factor: 1 }, inputs: { x: normal([1]) } },
    { name: 'all_odd', attrs: { shape: [3, 3, 29], factor: 1 }, inputs: { x: normal([1]) } },
  ],
})
