/** Results to compare every engine with, computed one by one in f64 from the formula of the inputs. */
import { NORM_EPS, streams, valueAt } from './inputs.ts'
import type { WeightFormat, Work } from './works.ts'

/** Largest error of one stored weight uniform in [-1, 1), whatever the rounding: half a step, or a step cut off. */
const stepOf: Readonly<Record<WeightFormat, number>> = {
  f32: 2 ** -24,
  f16: 2 ** -11,
  q8_0: 1 / 127,
  q4_0: 1 / 7,
}

export interface Expected {
  readonly indices: readonly number[]
  readonly values: readonly number[]
  /** Largest difference that rounding of inputs, weights and sums explains. */
  readonly tolerance: number
}

const SPOTS = 12

/** Spots spread over `count` results: first, last and others by formula. */
const spots = (count: number): number[] => [
  0,
  count - 1,
  ...Array.from({ length: SPOTS - 2 }, (_, i) => Math.floor(((valueAt(9, i) + 1) / 2) * count)),
]

/** Undefined for works whose result is checked by what it means (decode: tokens; train_step: the loss). */
export function expectedOf(work: Work): Expected | undefined {
  switch (work.kind) {
    case 'matmul': {
      const { rows, depth, columns, weights } = work
      const indices = spots(rows * columns)
      const values = indices.map((at) => {
        const [row, column] = [Math.floor(at / columns), at % columns]
        let sum = 0
        for (let k = 0; k < depth; k++)
          sum += valueAt(streams.x, row * depth + k) * valueAt(streams.w, column * depth + k)
        return sum
      })
      // x has variance 1/3. Errors of weights and of f32 sums add up like a random walk: six sigma of it.
      const perProduct = Math.sqrt(1 / 3) * (stepOf[weights] + 4 * 2 ** -24 * Math.sqrt(depth))
      return { indices, values, tolerance: 6 * Math.sqrt(depth) * perProduct }
    }
    case 'rms_norm': {
      const { rows, width } = work
      const indices = spots(rows * width)
      const values = indices.map((at) => {
        const start = at - (at % width)
        let squares = 0
        for (let i = 0; i < width; i++) squares += valueAt(streams.x, start + i) ** 2
        return (
          (valueAt(streams.x, at) / Math.sqrt(squares / width + NORM_EPS)) *
          valueAt(streams.weight, at % width)
        )
      })
      return { indices, values, tolerance: 1e-5 }
    }
    case 'softmax': {
      const { rows, width } = work
      const indices = spots(rows * width)
      const values = indices.map((at) => {
        const start = at - (at % width)
        let sum = 0
        for (let i = 0; i < width; i++) sum += Math.exp(valueAt(streams.x, start + i))
        return Math.exp(valueAt(streams.x, at)) / sum
      })
      return { indices, values, tolerance: 1e-4 / width }
    }
    case 'attention_decode': {
      const { context, heads, kv_heads, head_dim } = work
      const indices = spots(heads * head_dim)
      const values = indices.map((at) => {
        const [head, d] = [Math.floor(at / head_dim), at % head_dim]
        const first = Math.floor(head / (heads / kv_heads)) * context * head_dim
        let [sum, weighted] = [0, 0]
        for (let t = 0; t < context; t++) {
          let score = 0
          for (let i = 0; i < head_dim; i++)
            score +=
              valueAt(streams.query, head * head_dim + i) * valueAt(streams.key, first + t * head_dim + i)
          const p = Math.exp(score / Math.sqrt(head_dim))
          sum += p
          weighted += p * valueAt(streams.value, first + t * head_dim + d)
        }
        return weighted / sum
      })
      return { indices, values, tolerance: 1e-5 }
    }
    default:
      return undefined
  }
}
