import { z } from 'zod'
import { check, ExactmapError } from '../errors.ts'
import { elementCount, lastDim, sameShape, tensorType } from '../tensor/type.ts'
import { normal, values } from './cases.ts'
import { defineOp } from './contract.ts'
import { EPS_F32, sumDepth, TINY_F32 } from './tolerance.ts'

export interface ReduceAttributes {
  kind: 'sum' | 'mean' | 'max'
  axis: 'first' | 'last' | 'all'
}

/** Shape without its last dim; a vector leaves [1]. */
const withoutLast = (shape: readonly number[]): readonly number[] =>
  shape.length > 1 ? shape.slice(0, -1) : [1]

/** Shape without its first dim; a vector leaves [1]. */
const withoutFirst = (shape: readonly number[]): readonly number[] =>
  shape.length > 1 ? shape.slice(1) : [1]

/** Elements of x that become one of y. */
export const reduceSpan = ({ axis }: ReduceAttributes, shape: readonly number[]): number =>
  axis === 'first' ? shape[0]! : axis === 'last' ? lastDim(shape) : elementCount(shape)

/** Where in x the j-th of the elements that become y[i] is. */
function place(attrs: ReduceAttributes, shape: readonly number[]): (i: number, j: number) => number {
  const span = reduceSpan(attrs, shape)
  const width = elementCount(shape) / span
  return attrs.axis === 'first' ? (i, j) => j * width + i : (i, j) => i * span + j
}

/**
 * Sum, mean or maximum over the last dim (y has the shape without it, a vector gives [1]), over the first (likewise)
 * or over all ([1]).
 *
 * Over the first, each sum is one chain of f32 additions in ascending order, ((x[0] + x[1]) + x[2]) + ..., and a mean
 * that sum times the rounded 1/n: the same bytes on every backend, so that a reduction over ranks does not depend on
 * who does it. Only numbers below the smallest normal f32 may count as zero.
 */
export const reduce = defineOp<ReduceAttributes>({
  name: 'reduce',
  summary: 'y = sum, mean or max of x over its last dim, its first or all',
  inputs: { x: { doc: '[..., C]', formats: ['f32'] } },
  outputs: { y: { doc: '[...] or [1]', formats: ['f32'] } },
  attributes: z.strictObject({
    kind: z.enum(['sum', 'mean', 'max']),
    axis: z.enum(['first', 'last', 'all']),
  }),
  infer({ axis }, { x }) {
    const left = { first: withoutFirst, last: withoutLast, all: () => [1] }[axis](x!.shape)
    return { y: tensorType('f32', ...left) }
  },
  gradient: {
    x: {
      input({ g, attrs, inputs, dOutputs }) {
        if (attrs.kind === 'max')
          throw new ExactmapError(
            'unsupported',
            "reduce: kind 'max' has no gradient; use 'sum' or 'mean' where one is needed",
          )
        if (attrs.axis === 'first')
          throw new ExactmapError(
            'unsupported',
            "reduce: axis 'first' has no gradient, as broadcast repeats along the last dims only; transpose and use axis 'last' where one is needed",
          )
        const { shape } = inputs.x!.type
        const factor = attrs.kind === 'mean' ? 1 / reduceSpan(attrs, shape) : 1
        return g.op('broadcast', { shape: [...shape], factor }, { x: dOutputs.y }).y!
      },
    },
  },
  reference({ attrs, inputs, outputs }, { x }) {
    const { shape } = inputs.x!
    const [span, at] = [reduceSpan(attrs, shape), place(attrs, shape)]
    const round = attrs.axis === 'first' ? Math.fround : (v: number) => v
    const y = new Float64Array(elementCount(outputs.y!.shape))
    for (let i = 0; i < y.length; i++) {
      let folded = x![at(i, 0)]!
      for (let j = 1; j < span; j++) {
        const v = x![at(i, j)]!
        folded = attrs.kind === 'max' ? Math.max(folded, v) : round(folded + v)
      }
      if (attrs.kind !== 'mean') y[i] = folded
      else y[i] = attrs.axis === 'first' ? folded * round(1 / span) : folded / span
    }
    return { y }
  },
  // Over the first dim the reference is the definition to the bit; elements and partial sums below the smallest normal
  // may be flushed. Elsewhere a maximum is one of the elements (a subnormal one may be flushed), and a mean is the sum
  // times the rounded 1/span.
  tolerance({ attrs, inputs, outputs }, { x }) {
    const { shape } = inputs.x!
    const [span, at] = [reduceSpan(attrs, shape), place(attrs, shape)]
    if (attrs.axis === 'first') return { y: () => 2 * span * TINY_F32 }
    if (attrs.kind === 'max') return { y: () => TINY_F32 }
    const size = new Float64Array(elementCount(outputs.y!.shape))
    for (let i = 0; i < size.length; i++) for (let j = 0; j < span; j++) size[i]! += Math.abs(x![at(i, j)]!)
    const terms = attrs.kind === 'mean' ? span : 1
    return { y: (i) => ((sumDepth(span) + 12) * EPS_F32 * size[i]!) / terms + TINY_F32 }
  },
  flops: ({ inputs }) => elementCount(inputs.x!.shape),
  // The cases of kind 'max' and axis 'first' have more elements than those that finite differences use, as neither has
  // a gradient.
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
    { name: 'sum_first', attrs: { kind: 'sum', axis: 'first' }, inputs: { x: normal([3, 5, 67]) } },
    { name: 'sum_first_even', attrs: { kind: 'sum', axis: 'first' }, inputs: { x: normal([72, 64]) } },
    {
      name: 'sum_first_cancels',
      attrs: { kind: 'sum', axis: 'first' },
      inputs: { x: values([7, 132], [1e8, 1, -1e8, 3.3, -7e-4]) },
    },
    { name: 'sum_first_vector', attrs: { kind: 'sum', axis: 'first' }, inputs: { x: normal([401]) } },
    { name: 'sum_first_one', attrs: { kind: 'sum', axis: 'first' }, inputs: { x: normal([1, 401], 1e30) } },
    {
      name: 'mean_first',
      attrs: { kind: 'mean', axis: 'first' },
      inputs: { x: normal([6, 260], 1, 'f32', 3) },
    },
    { name: 'max_first', attrs: { kind: 'max', axis: 'first' }, inputs: { x: normal([13, 37], 100) } },
    {
      name: 'max_first_negative',
      attrs: { kind: 'max', axis: 'first' },
      inputs: { x: values([5, 100], [-3e38, -1e30, -2e38]) },
    },
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
