import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { localTransports } from '../../backends/local_transport.ts'
import { NullDevice } from '../../backends/null/device.ts'
import { referenceTarget } from '../../backends/reference/device.ts'
import { familyOf } from '../../src/models/index.ts'
import { cutRuns, putRuns, type Run, runElements } from '../../src/models/shard.ts'
import { Philox } from '../../src/tensor/philox.ts'
import { loadCheckpoint, openCheckpoint, saveCheckpoint } from '../../src/train/checkpoint.ts'
import { samePlace } from '../../src/train/grid.ts'
import { stateArenas, Trainer } from '../../src/train/trainer.ts'
import { differing } from '../helpers/same_bytes.ts'
import { config, type GridAxes, gridOf, models, placesOf } from './grid.ts'

// Saving and loading need no kernel: the null backend's arenas hold the state.

const folder = mkdtempSync(join(tmpdir(), 'exactmap-sharded-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const MICROBATCHES = 4
const about = { tokens: 0, seconds: 0, data: 'd' }

/** The trainers of all ranks of a grid. */
function trainers(model: keyof typeof models, axes: GridAxes): Promise<Trainer[]> {
  const family = familyOf(models[model])
  const grid = gridOf(axes, MICROBATCHES)
  const places = placesOf(grid)
  return Promise.all(
    localTransports(places.length).map((transport, rank) =>
      Trainer.create(
        new NullDevice(referenceTarget),
        family,
        family.parse(models[model]),
        config(MICROBATCHES),
        {
          rank: {
            grid,
            transport,
            place: places[rank]!,
            rankAt: (place) => places.findIndex((other) => samePlace(other, place)),
          },
        },
      ),
    ),
  )
}

const save = (output: string, ranks: readonly Trainer[]): Promise<unknown> =>
  Promise.all(ranks.map((trainer) => saveCheckpoint(output, trainer, about, 1)))
const load = (output: string, ranks: readonly Trainer[], allow = true): Promise<unknown> =>
  Promise.all(ranks.map((trainer) => loadCheckpoint(output, 0, trainer, 'd', allow)))

/** Every tensor of a checkpoint. */
async function contents(output: string, model: keyof typeof models): Promise<Map<string, Float32Array>> {
  const family = familyOf(models[model])
  const checkpoint = await openCheckpoint(output, 0)
  const all = new Map<string, Float32Array>()
  for (const { name, shape } of family.parameters(family.parse(models[model])))
    for (const kind of stateArenas) all.set(`${kind}/${name}`, await checkpoint.read(kind, name, shape))
  await checkpoint.close()
  return all
}

const grids: GridAxes[] = [
  {},
  { pipeline: 2 },
  { pipeline: 2, chunks: 2, schedule: 'zb_v' },
  { tensor: 2 },
  { data: 2, zero: 1 },
  { data: 4, zero: 1, tensor: 2 },
  { pipeline: 4, tensor: 2, data: 2, zero: 1 },
]

describe.each(['llama', 'gpt2'] as const)('checkpoints of %s', (model) => {
  it('are read by every other grid, and saved by it again as they were', async () => {
    const [one] = await trainers(model, {})
    const random = new Philox(1, 2)
    for (const kind of stateArenas)
      for (const { offset, bytes } of one!.arena(kind).plan.tensors) {
        const values = Float32Array.from({ length: bytes / 4 }, () => random.normal())
        one!.arena(kind).write(offset, new Uint8Array(values.buffer))
      }
    let last = join(folder, `${model}-0`)
    await save(last, [one!])
    const expected = await contents(last, model)
    const all: { axes: GridAxes; ranks: Trainer[] }[] = []
    for (const axes of grids) all.push({ axes, ranks: await trainers(model, axes) })
    // Each grid reads what the one before has saved, and has nothing of its own: what it held is overwritten with NaN.
    for (const [i, { axes, ranks }] of [...all, ...[...all].reverse()].entries()) {
      for (const trainer of ranks) for (const kind of stateArenas) trainer.arena(kind).fill(255)
      await load(last, ranks)
      last = join(folder, `${model}-${i + 1}`)
      await save(last, ranks)
      expect(differing(await contents(last, model), expected), JSON.stringify(axes)).toEqual([])
    }
  })
})

describe('a checkpoint in parts', () => {
  it('goes on without a flag on another pipeline, and not with other sums', async () => {
    const output = join(folder, 'flag')
    await save(output, await trainers('llama', { pipeline: 2 }))
    await load(output, await trainers('llama', { pipeline: 4, schedule: 'zb_h1' }), false)
    await expect(load(output, await trainers('llama', { tensor: 2 }), false)).rejects.toThrow(
      /made with program .* this run has .*--allow-numeric-change/,
    )
  })

  it('that lacks a file, or has a damaged one, is refused', async () => {
    const output = join(folder, 'damaged')
    await save(output, await trainers('llama', { tensor: 2 }))
    const at = join(output, 'checkpoint-0000000')
    const state = JSON.parse(readFileSync(join(at, 'state.json'), 'utf8'))
    const { 'state.1.safetensors': second, ...rest } = state.files
    writeFileSync(join(at, 'state.json'), JSON.stringify({ ...state, files: rest }))
    await expect(load(output, await trainers('llama', {}))).rejects.toThrow(
      /of the \d+ elements .* are there/,
    )
    writeFileSync(
      join(at, 'state.json'),
      JSON.stringify({ ...state, files: { ...rest, 'state.1.safetensors': second.replace(/^./, 'x') } }),
    )
    await expect(load(output, await trainers('llama', {}))).rejects.toMatchObject({ code: 'invalid_format' })
  })
})

it('a cut of runs names the same elements as the runs', () => {
  const runs = fc.array(
    fc.record({
      length: fc.integer({ min: 1, max: 5 }),
      count: fc.integer({ min: 1, max: 4 }),
      gap: fc.nat(3),
    }),
    { minLength: 1, maxLength: 4 },
  )
  fc.assert(
    fc.property(runs, fc.nat(60), fc.nat(60), (list, a, b) => {
      let start = 0
      const made = list.map(({ length, count, gap }): Run => {
        const run = { start, length, count, stride: length + gap }
        start += count * (length + gap)
        return run
      })
      const total = runElements(made)
      const [from, to] = [Math.min(a, b, total), Math.min(Math.max(a, b), total)]
      const part = Float32Array.from({ length: total }, (_, i) => i + 1)
      const whole = new Float32Array(start)
      putRuns(made, part, whole)
      const cut = cutRuns(made, from, to)
      expect(runElements(cut)).toBe(to - from)
      const got = new Float32Array(start)
      putRuns(cut, part.subarray(from, to), got)
      expect(got).toEqual(whole.map((v) => (v > from && v <= to ? v : 0)))
    }),
  )
})
