import { z } from 'zod'
import { check } from '../errors.ts'
import { philox4x32, uniformFromBits } from '../tensor/philox.ts'
import { sameShape, tensorType } from '../tensor/type.ts'
import { highestIndex } from './argmax.ts'
import { integers, normal, values } from './cases.ts'
import { type CaseInput, defineOp } from './contract.ts'
import { exact } from './tolerance.ts'

/** A sampled token and how far its decisions were from going the other way. */
export interface Draw {
  readonly token: number
  /**
   * Smallest relative distance of any decision (a token against a threshold, the drawn place against the ends of
   * the chosen token) from its boundary. A kernel in f32 is bound to choose the same token only when this is
   * well above its rounding errors; exact ties do not count, they are decided by rule.
   */
  readonly margin: number
}

/** The definition of `sample` for one row; `draw` is uniform in [0, 1). */
export function sampleRow(
  logits: ArrayLike<number>,
  options: ArrayLike<number>,
  seen: Iterable<number>,
  draw: number,
): Draw {
  const [temperature, topK, topP, minP, penalty] = Array.from(options) as [
    number,
    number,
    number,
    number,
    number,
  ]
  const scores = Float64Array.from(logits)
  if (penalty > 0 && penalty !== 1)
    for (const token of new Set(seen))
      if (token < scores.length)
        scores[token] = scores[token]! > 0 ? scores[token]! / penalty : scores[token]! * penalty
  const best = highestIndex(scores)
  if (temperature === 0) {
    const next = scores.reduce(
      (high, s) => (s !== scores[best] ? Math.max(high, s) : high),
      Number.NEGATIVE_INFINITY,
    )
    return {
      token: best,
      margin: scores.length === 1 ? 1 : (scores[best]! - next) / (Math.abs(scores[best]!) + Math.abs(next)),
    }
  }
  const p = scores.map((s) => Math.exp((s - scores[best]!) / temperature))
  let margin = 1
  const decide = (distance: number): void => {
    margin = Math.min(margin, Math.abs(distance))
  }
  const sorted = p.slice().sort((a, b) => b - a)
  const sum = (list: Float64Array): number => list.reduce((a, b) => a + b, 0)
  /** Keeps the `count` most probable and all that equal the last of them. */
  const keep = (count: number): number => {
    const bound = sorted[count - 1]!
    const next = sorted.findIndex((v) => v < bound)
    if (next >= 0) decide((bound - sorted[next]!) / bound)
    return bound
  }
  let bound = 0
  if (topK > 0 && topK < p.length) bound = keep(topK)
  if (topP < 1) {
    const wanted = topP * sum(sorted.filter((v) => v >= bound))
    let mass = 0
    let count = 0
    while (count === 0 || (mass < wanted && count < sorted.length)) mass += sorted[count++]!
    if (count > 1) decide((wanted - (mass - sorted[count - 1]!)) / wanted)
    decide((mass - wanted) / wanted)
    bound = keep(count)
  }
  if (minP > 0) {
    for (const v of p) if (v !== 1) decide((v - minP) / minP)
    bound = Math.max(bound, Math.min(minP, 1))
  }
  const kept = p.map((v) => (v >= bound ? v : 0))
  const total = sum(kept)
  const place = draw * total
  let before = 0
  let token = best
  for (let i = 0; i < kept.length; i++) {
    if (kept[i]! > 0 && before <= place) token = i
    before += kept[i]!
  }
  const start = sum(kept.subarray(0, token))
  const end = start + kept[token]!
  if (kept.subarray(0, token).some((v) => v > 0)) decide((place - start) / total)
  if (kept.subarray(token + 1).some((v) => v > 0)) decide((end - place) / total)
  return { token, margin }
}

/**
 * One token per row of logits f32 [B, V]. options f32 [B, 8]: temperature (0: highest logit, lowest index of
 * equal ones), top_k (0: off), top_p (1: off), min_p (0: off), repetition_penalty (1 or 0: off), three zeros.
 * In this order:
 * 1. logits of the distinct tokens in history[b, :length[b]] are divided by the penalty if positive, else
 *    multiplied by it;
 * 2. e = exp((logit - max) / temperature);
 * 3. top_k: keeps the k largest e; 4. top_p: of those, the fewest of the largest whose sum reaches top_p of the
 *    sum of all of those, at least one; 5. min_p: of those, e >= min_p (times the largest, which is 1).
 *    Tokens equal to the last one kept by 3 or 4 are all kept;
 * 6. draws u in [0, 1): 24 bits of the first word of Philox at counter (step, stream, 0, 0), key (seed low,
 *    seed high); the token is where the cumulative sum of e in index order first exceeds u times the total.
 * Exact, except that rounding may decide where `sampleRow` reports a margin within it. The stored cases stay
 * clear of that; a unit test checks it.
 */
export const sample = defineOp<Record<string, never>>({
  name: 'sample',
  summary:
    'repetition penalty, temperature, top_k, top_p, min_p, then a Philox draw against the cumulative sum',
  source: 'Holtzman et al. 2020 (top_p); Keskar et al. 2019 (repetition penalty); Nguyen et al. 2024 (min_p)',
  inputs: {
    logits: { doc: '[B, V]', formats: ['f32'] },
    options: { doc: '[B, 8]', formats: ['f32'] },
    key: { doc: '[B, 4]: seed low, seed high, step, stream', formats: ['u32'] },
    history: { doc: '[B, N]', formats: ['u32'] },
    length: { doc: '[B], valid entries of history', formats: ['u32'] },
  },
  outputs: { token: { doc: '[B]', formats: ['u32'] } },
  attributes: z.strictObject({}),
  infer(_attrs, inputs) {
    const { shape } = inputs.logits!
    check(shape.length === 2, 'invalid_shape', () => `sample: logits must be [B, V], got [${shape}]`)
    const [rows, width] = shape as [number, number]
    check(
      width < 2 ** 24,
      'invalid_shape',
      () => `sample: V must be below 2^24 so that counts are exact in f32, got ${width}`,
    )
    const expected = {
      options: [rows, 8],
      key: [rows, 4],
      history: [rows, inputs.history!.shape.at(-1)!],
      length: [rows],
    }
    for (const [port, want] of Object.entries(expected))
      check(
        sameShape(inputs[port]!.shape, want),
        'invalid_shape',
        () => `sample: ${port} must be [${want}], got [${inputs[port]!.shape}]`,
      )
    return { token: tensorType('u32', rows) }
  },
  gradient: { none: 'an index has no derivative' },
  reference({ inputs }, { logits, options, key, history, length }) {
    const [rows, width] = inputs.logits!.shape as [number, number]
    const slots = inputs.history!.shape[1]!
    const token = Float64Array.from({ length: rows }, (_, b) => {
      const [low, high, step, stream] = key!.subarray(4 * b, 4 * b + 4) as unknown as [
        number,
        number,
        number,
        number,
      ]
      const seen = history!.subarray(b * slots, b * slots + Math.min(length![b]!, slots))
      const draw = uniformFromBits(philox4x32([step, stream, 0, 0], [low, high])[0])
      return sampleRow(
        logits!.subarray(b * width, (b + 1) * width),
        options!.subarray(8 * b, 8 * b + 8),
        seen,
        draw,
      ).token
    })
    return { token }
  },
  tolerance: () => ({ token: exact }),
  flops: ({ inputs }) => 60 * inputs.logits!.shape[0]! * inputs.logits!.shape[1]!,
  // Many cases share a shape, so that drivers compile this large kernel few times.
  cases: [
    { name: 'one', attrs: {}, inputs: rowsOf(1, 1, 1, [[0.8, 40, 0.95, 0.05, 1.1]]) },
    { name: 'plain', attrs: {}, inputs: rowsOf(6, 101, 20, [[1, 0, 1, 0, 1]]) },
    {
      name: 'temperatures',
      attrs: {},
      inputs: rowsOf(6, 101, 20, [
        [0.25, 0, 1, 0, 1],
        [2, 0, 1, 0, 1],
      ]),
    },
    {
      name: 'greedy',
      attrs: {},
      inputs: rowsOf(6, 101, 20, [
        [0, 5, 0.5, 0.1, 1],
        [0, 0, 1, 0, 1.5],
      ]),
    },
    {
      name: 'greedy_ties',
      attrs: {},
      inputs: { ...rowsOf(6, 128, 20, [[0, 0, 1, 0, 1]]), logits: values([6, 128], [1, 0, 4, 4, 2, 4, -3]) },
    },
    {
      name: 'top_k',
      attrs: {},
      inputs: rowsOf(6, 128, 20, [
        [1, 1, 1, 0, 1],
        [1, 3, 1, 0, 1],
        [1, 200, 1, 0, 1],
      ]),
    },
    {
      name: 'top_p',
      attrs: {},
      inputs: rowsOf(6, 128, 20, [
        [1, 0, 0.9, 0, 1],
        [1, 0, 0.3, 0, 1],
        [1, 0, 0.001, 0, 1],
      ]),
    },
    {
      name: 'min_p',
      attrs: {},
      inputs: rowsOf(6, 101, 20, [
        [1, 0, 1, 0.05, 1],
        [1, 0, 1, 1, 1],
      ]),
    },
    {
      name: 'ties_at_threshold',
      attrs: {},
      inputs: {
        ...rowsOf(6, 128, 20, [
          [1, 2, 1, 0, 1],
          [1, 0, 0.7, 0, 1],
        ]),
        logits: values([6, 128], [3, 2, 2, 1, 2, ...Array(123).fill(-9)]),
      },
    },
    {
      name: 'penalty',
      attrs: {},
      inputs: {
        ...rowsOf(6, 101, 20, [
          [0.7, 0, 1, 0, 1.3],
          [0.7, 0, 1, 0, 0.5],
        ]),
        length: values([6], [20, 3, 0, 900], 'u32'),
      },
    },
    {
      name: 'all',
      attrs: {},
      inputs: rowsOf(6, 128, 20, [
        [0.8, 40, 0.95, 0.02, 1.1],
        [1.2, 20, 0.8, 0.1, 1.2],
      ]),
    },
    { name: 'peaked', attrs: {}, inputs: rowsOf(3, 5003, 16, [[0.3, 40, 0.95, 0, 1.1]]) },
    { name: 'vocabulary', attrs: {}, inputs: rowsOf(1, 50304, 16, [[0.3, 40, 0.9, 0, 1]]) },
    {
      name: 'large_magnitude',
      attrs: {},
      inputs: { ...rowsOf(6, 101, 20, [[1, 0, 0.9, 0, 1]]), logits: normal([6, 101], 1e4) },
    },
  ],
})

/** Inputs for B rows of V logits; the given option rows are repeated. */
function rowsOf(
  rows: number,
  width: number,
  slots: number,
  options: readonly (readonly number[])[],
): Record<string, CaseInput> {
  const list = Array.from({ length: rows }, (_, b) => [...options[b % options.length]!, 0, 0, 0])
  return {
    logits: normal([rows, width], 3),
    options: values([rows, 8], list.flat()),
    key: integers([rows, 4], 0, 2 ** 32),
    history: integers([rows, slots], 0, width),
    length: values([rows], [slots], 'u32'),
  }
}
