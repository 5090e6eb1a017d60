import { describe, expect, it } from 'vitest'
import { sample, sampleRow } from '../../src/ops/sample.ts'
import { EPS_F32, expError, sumDepth } from '../../src/ops/tolerance.ts'
import { Philox, philox4x32, uniformFromBits } from '../../src/tensor/philox.ts'
import { decodeTensor, makeVector } from '../../src/verify/vector.ts'

const options = (temperature: number, topK = 0, topP = 1, minP = 0, penalty = 1): number[] => [
  temperature,
  topK,
  topP,
  minP,
  penalty,
]

describe('philox', () => {
  // Known answers of Random123 1.09, kat_vectors, philox4x32 10.
  const known: [number[], number[], number[]][] = [
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [Array(4).fill(0xffffffff), Array(2).fill(0xffffffff), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ]
  for (const [counter, key, answer] of known)
    it(`gives the published words at counter ${counter.map((c) => c.toString(16))}`, () =>
      expect(philox4x32(counter, key)).toEqual(answer))
  it('makes uniforms below 1 that are exact in f32', () => {
    expect(uniformFromBits(0xffffffff)).toBe(1 - 2 ** -24)
    expect(Math.fround(uniformFromBits(0xffffffff))).toBe(1 - 2 ** -24)
    expect(uniformFromBits(0)).toBe(0)
  })
})

describe('sampleRow', () => {
  const logits = [0, 3, 2, 2, -1, 1]
  it('keeps every token equal to the last one kept', () => {
    const seen = new Set<number>()
    for (let i = 0; i < 200; i++) seen.add(sampleRow(logits, options(1, 2), [], i / 200).token)
    expect([...seen].sort()).toEqual([1, 2, 3])
  })
  it('keeps at least one token whatever top_p is', () =>
    expect(sampleRow(logits, options(1, 0, 1e-6), [], 0.999).token).toBe(1))
  it('penalises a token once however often it occurs', () =>
    expect(sampleRow([4, 3, 0], options(0, 0, 1, 0, 1.3), [0, 0, 0], 0).token).toBe(0))
  it('multiplies negative logits by the penalty', () =>
    expect(sampleRow([-1, -1.5], options(0, 0, 1, 0, 2), [0], 0).token).toBe(1))
  it('draws each token as often as it is probable', () => {
    const random = new Philox(5)
    const counts = [0, 0, 0]
    for (let i = 0; i < 20000; i++)
      counts[sampleRow([0, Math.log(2), Math.log(5)], options(1), [], random.uniform()).token]!++
    // Four standard deviations of a binomial with n = 20000.
    for (const [i, p] of [1 / 8, 2 / 8, 5 / 8].entries())
      expect(Math.abs(counts[i]! / 20000 - p)).toBeLessThan(4 * Math.sqrt((p * (1 - p)) / 20000))
  })
})

describe('cases of sample', () => {
  for (const one of sample.cases)
    it(`${one.name}: every decision is clear of the rounding errors a kernel may have`, () => {
      const { inputs } = makeVector(sample, one)
      const values = Object.fromEntries(Object.entries(inputs).map(([p, t]) => [p, decodeTensor(t)]))
      const [rows, width] = inputs.logits!.type.shape as [number, number]
      const slots = inputs.history!.type.shape[1]!
      for (let b = 0; b < rows; b++) {
        const row = values.logits!.subarray(b * width, (b + 1) * width)
        const option = values.options!.subarray(8 * b, 8 * b + 8)
        const key = values.key!.subarray(4 * b, 4 * b + 4)
        const seen = values.history!.subarray(b * slots, b * slots + Math.min(values.length![b]!, slots))
        const draw = uniformFromBits(philox4x32([key[2]!, key[3]!, 0, 0], [key[0]!, key[1]!])[0])
        // Tokens that can matter lie within 20 of the largest in (logit - max) / temperature; the difference of two
        // logits carries the rounding of the penalty and of the logits' own size.
        const size = row.reduce((a, v) => Math.max(a, Math.abs(v)), 0)
        const budget = expError(20) + (3 * size * EPS_F32) / (option[0] || 1) + 2 * sumDepth(width) * EPS_F32
        const { margin } = sampleRow(row, option, seen, draw)
        expect(margin, `row ${b}`).toBeGreaterThan(2 * budget)
      }
    })
})
