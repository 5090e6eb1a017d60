import { describe, expect, it } from 'vitest'
import { decodeCycles, splitsOf } from '../../backends/cuda/kernels/attention_splits.ts'

const MULTIPROCESSORS = 132

/** Decoding of Llama's shape of 8B: 8 key heads of 128, 32 query heads. */
const shape = (batch: number, context: number, bytes: 1 | 2) => ({
  blocks: batch * 8,
  pages: Math.ceil(context / 64),
  pageBytes: 2 * 64 * 128 * bytes,
  sumsBytes: 4 * batch * 32 * 130,
})

describe('splits of a decode step', () => {
  it('are none where one page is all there is, or the blocks fill the GPU evenly', () => {
    expect(splitsOf(shape(1, 64, 2), MULTIPROCESSORS)).toBe(1)
    expect(splitsOf({ ...shape(1, 4096, 2), blocks: 3 * MULTIPROCESSORS }, MULTIPROCESSORS)).toBe(1)
  })

  it('bring one sequence near the speed of memory', () => {
    for (const bytes of [1, 2] as const)
      for (const context of [4096, 16384, 131072]) {
        const one = shape(1, context, bytes)
        const cycles = decodeCycles(one, splitsOf(one, MULTIPROCESSORS), MULTIPROCESSORS)
        const memory = (one.blocks * one.pages * one.pageBytes) / (20 * MULTIPROCESSORS)
        // A merge, sums of every split, and pages that splits divide unevenly.
        expect(cycles).toBeLessThan(1.6 * memory + 3 * 1830)
        expect(decodeCycles(one, 1, MULTIPROCESSORS)).toBeGreaterThan(3 * cycles)
      }
  })

  it('even out the last round of blocks', () => {
    const batch = shape(50, 8192, 2)
    expect(batch.blocks).toBeGreaterThan(3 * MULTIPROCESSORS)
    expect(splitsOf(batch, MULTIPROCESSORS)).toBeGreaterThan(1)
  })

  it('are at most one a page and no worse than any other number', () => {
    for (const batch of [1, 2, 7, 16, 64])
      for (const context of [64, 128, 700, 4096, 32768]) {
        const one = shape(batch, context, 2)
        const splits = splitsOf(one, MULTIPROCESSORS)
        expect(splits).toBeLessThanOrEqual(one.pages)
        const chosen = decodeCycles(one, splits, MULTIPROCESSORS)
        expect(chosen).toBeLessThanOrEqual(decodeCycles(one, 1, MULTIPROCESSORS))
        expect(chosen).toBeLessThanOrEqual(decodeCycles(one, Math.min(2, one.pages), MULTIPROCESSORS))
      }
  })
})
