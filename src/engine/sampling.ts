import { check } from '../errors.ts'

/** How the next token is chosen. Zero or one switch a filter off, as noted. */
export interface SamplingOptions {
  /** 0: greedy. Default 0.8. */
  readonly temperature?: number
  /** Keep the k most probable; 0: off (default). */
  readonly topK?: number
  /** Keep the smallest set that reaches this probability; 1: off. Default 0.95. */
  readonly topP?: number
  /** Keep tokens at least this probable relative to the best; 0: off (default). */
  readonly minP?: number
  /** Divides positive logits of tokens already seen; 1: off (default). */
  readonly repetitionPenalty?: number
  /** Key of the Philox stream. Default 0. */
  readonly seed?: number
}

/** The eight floats of the `sample` op, checked. */
export function samplingRow(options: SamplingOptions = {}): Float32Array {
  const { temperature = 0.8, topK = 0, topP = 0.95, minP = 0, repetitionPenalty = 1 } = options
  const within = (name: string, value: number, low: number, high: number): void =>
    check(
      value >= low && value <= high,
      'invalid_argument',
      `${name} must be between ${low} and ${high}, got ${value}`,
    )
  within('temperature', temperature, 0, 100)
  within('top-k', topK, 0, 2 ** 24)
  check(Number.isInteger(topK), 'invalid_argument', `top-k must be a whole number, got ${topK}`)
  within('top-p', topP, Number.MIN_VALUE, 1)
  within('min-p', minP, 0, 1)
  within('repetition penalty', repetitionPenalty, 0.01, 100)
  return Float32Array.of(temperature, topK, topP, minP, repetitionPenalty, 0, 0, 0)
}

/** Seed as the two key words of Philox. */
export function seedWords(seed = 0): [number, number] {
  check(
    Number.isSafeInteger(seed) && seed >= 0,
    'invalid_argument',
    `seed must be a whole number from 0 to 2^53 - 1, got ${seed}`,
  )
  return [seed >>> 0, Math.floor(seed / 2 ** 32)]
}
