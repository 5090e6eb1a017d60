/** Results to compare every engine with: computed one by one in f64 from the formula of the inputs, or the first engine's. */
import { NORM_EPS, streams, valueAt } from './inputs.ts'
import type { WeightFormat, Work } from './works.ts'

/** Largest error of one stored weight uniform in [-1, 1), whatever the rounding: half a step, or a step cut off. */
const stepOf: Readonly<Record<WeightFormat, number>> = {
  f32: 2 ** -24,
  f16: 2 ** -11,
  q8_0: 1 / 127,
  q4_0: 1 / 7,
}

/** What engines must agree on where no formula gives it; the first that does the work sets it. */
export interface Agreement {
  /** Runs it takes to have the values. */
  readonly times: number
  readonly indices: readonly number[]
  /** Largest difference, as a part of the value. */
  readonly relative: number
}

export interface Expected {
  readonly indices: readonly number[]
  readonly values: readonly number[]
  /** Largest difference from a value that rounding of inputs, weights and sums explains. */
  readonly tolerance: (value: number) => number
}

const SPOTS = 12

/** Spots spread over `count` results: first, last and others by formula. */
const spots = (count: number): number[] => [
  0,
  count - 1,
  ...Array.from({ length: SPOTS - 2 }, (_, i) => Math.floor(((valueAt(9, i) + 1) / 2) * count)),
]

/** Undefined for works whose engines are compared with each other (`agreementOf`). */
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
      return { indices, values, tolerance: () => 6 * Math.sqrt(depth) * perProduct }
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
      return { indices, values, tolerance: () => 1e-5 }
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
      return { indices, values, tolerance: () => 1e-4 / width }
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
      return { indices, values, tolerance: () => 1e-5 }
    }
    default:
      return undefined
  }
}

/** Undefined for works that `expectedOf` knows. */
export function agreementOf(work: Work): Agreement | undefined {
  switch (work.kind) {
    // The same ids. Rounding differs between engines (f16 or f32 activations; llama.cpp rounds them to q8_0), so that a
    // later one may flip where two logits nearly tie; bench/models.ts says by how much the first eight lead.
    case 'decode':
      return { times: 8, indices: first(8), relative: 0 }
    // Rounding of f32 sums of some hundred terms, 1e-6, is multiplied by every step at this learning rate.
    case 'train_step':
      return { times: 3, indices: first(3), relative: 1e-3 }
    default:
      return undefined
  }
}

const first = (count: number): number[] => Array.from({ length: count }, (_, i) => i)
