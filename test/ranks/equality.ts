import { describe, expect, it } from 'vitest'
import type { Device } from '../../backends/backend.ts'
import { EPS_F32, sumDepth } from '../../src/ops/tolerance.ts'
import type { TrainConfig } from '../../src/train/config.ts'
import type { TrainingGrid } from '../../src/train/grid.ts'
import { differing } from '../helpers/same_bytes.ts'
import { config, type GridAxes, type GridResult, gridOf, type models, trainGrid } from './grid.ts'

const MICROBATCHES = 4

type Model = keyof typeof models

class Results {
  /** Of one rank, computed when first asked for. */
  private readonly known = new Map<string, Promise<GridResult>>()

  constructor(private readonly device: Device) {}

  train(model: Model, run: TrainConfig, grid: TrainingGrid | undefined): Promise<GridResult> {
    return trainGrid(this.device, model, run, grid)
  }

  one(model: Model, microbatches: number, changes: Record<string, unknown> = {}): Promise<GridResult> {
    const key = JSON.stringify([model, microbatches, changes])
    const found = this.known.get(key) ?? this.train(model, config(microbatches, changes), undefined)
    this.known.set(key, found)
    return found
  }

  async expectSameBytes(
    model: Model,
    axes: GridAxes,
    microbatches: number,
    changes: Record<string, unknown> = {},
  ): Promise<void> {
    const expected = await this.one(model, microbatches, changes)
    const grid = gridOf(axes, microbatches)
    const { reports, parameters } = await this.train(model, config(microbatches, changes), grid)
    for (const list of reports) expect(list).toEqual(expected.reports[0])
    expect(differing(parameters, expected.parameters)).toEqual([])
  }
}

/** Ten steps of training on many ranks, all in this process on one device, against the same ten steps on one. */
export function equalitySuite(device: Device): void {
  const results = new Results(device)
  describe('pipelines give the bytes of one rank', () => {
    it.each<GridAxes>([
      { pipeline: 2, schedule: 'gpipe' },
      { pipeline: 2, schedule: '1f1b' },
      { pipeline: 4, schedule: '1f1b' },
      { pipeline: 2, schedule: 'interleaved', chunks: 2 },
      { pipeline: 1, schedule: 'interleaved', chunks: 2 },
      { pipeline: 2, schedule: 'zb_h1' },
      { pipeline: 4, schedule: 'zb_h1' },
      { pipeline: 2, schedule: 'zb_v' },
      { pipeline: 2, schedule: 'dualpipe_v' },
    ])('llama %o', (axes) => results.expectSameBytes('llama', axes, MICROBATCHES))

    it('qwen2, with a head of its own and both ends on one rank', () =>
      results.expectSameBytes('qwen2', { pipeline: 2, schedule: 'zb_v' }, 4))

    it('gpt2, recomputing layers, in bf16', () =>
      results.expectSameBytes('gpt2', { pipeline: 2 }, 4, { recompute: 'layer', recipe: 'bf16' }))
  })

  describe('data ranks give the bytes of one rank', () => {
    // With one microbatch each the sum over ranks is the sum over microbatches.
    it.each<GridAxes>([{ data: 2 }, { data: 2, zero: 1 }, { pipeline: 2, data: 2 }])('llama %o', (axes) =>
      results.expectSameBytes('llama', axes, 2))

    // With several, one rank sums them in the same groups.
    it.each<GridAxes>([
      { data: 2, zero: 1 },
      { pipeline: 2, data: 2, schedule: 'zb_h1' },
    ])('llama %o in groups', (axes) => results.expectSameBytes('llama', axes, 4, { gradient_groups: 2 }))
  })

  describe('tensor-parallel ranks give the numbers of one rank', () => {
    // Sums over heads, columns and vocabulary are made of two parts. Seventeen products forward and as many back, each a
    // sum of at most 64 terms: relative to the largest value of a tensor, once for each step.
    const CHAIN = 34 * sumDepth(64) * EPS_F32

    it.each<[Model, GridAxes]>([
      ['llama', { tensor: 2 }],
      ['gpt2', { tensor: 2 }],
      ['llama', { tensor: 2, pipeline: 2 }],
    ])('%s %o', async (model, axes) => {
      const expected = await results.one(model, 2)
      const { reports, parameters } = await results.train(model, config(2), gridOf(axes, 2))
      for (const list of reports) {
        expect(list).toEqual(reports[0])
        for (const [i, { loss, norm }] of list.entries()) {
          const single = expected.reports[0]![i]!
          expect(Math.abs(loss - single.loss)).toBeLessThan((i + 1) * CHAIN * single.loss)
          expect(Math.abs(norm - single.norm)).toBeLessThan((i + 1) * CHAIN * single.norm)
        }
      }
      for (const [name, values] of expected.parameters) {
        const largest = values.reduce((a, v) => Math.max(a, Math.abs(v)), 0)
        const got = parameters.get(name)!
        const worst = values.reduce((a, v, i) => Math.max(a, Math.abs(v - got[i]!)), 0)
        expect(worst, name).toBeLessThan(reports[0]!.length * CHAIN * largest)
      }
    })
  })
}
