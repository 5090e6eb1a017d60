import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Arena, Device } from '../../backends/backend.ts'
import { Generator } from '../../src/engine/generator.ts'
import { type InferenceSpec, inferenceGraph } from '../../src/engine/inference_graph.ts'
import { ExactmapError } from '../../src/errors.ts'
import { open } from '../../src/open.ts'
import { compile } from '../../src/program/compile.ts'
import { loadCheckpoint, saveCheckpoint } from '../../src/train/checkpoint.ts'
import type { Trainer } from '../../src/train/trainer.ts'
import { temporaryFolder, tinyConfigs, writeModelFolder } from './tiny.ts'
import { readArena, sampler, trainConfig, trainerOf, trainSteps } from './train.ts'

// What a training run leaves in its arenas: the same bytes when repeated, resumed or interrupted by generation.

const device = await open('webgpu')
const config = trainConfig({ steps: 20 })
const DATA = 'hash of the data'
let folder = ''
let path = ''
/** Twenty steps in one go: the run the others must equal. */
let straight: Trainer
let losses: number[]

beforeAll(async () => {
  folder = await temporaryFolder()
  path = await writeModelFolder(join(folder, 'llama'), tinyConfigs.llama)
  straight = await trainerOf(device, path, config)
  losses = (await trainSteps(straight, await sampler(path, config), 20)).map((r) => r.loss)
}, 60_000)

afterAll(async () => {
  device.destroy()
  await rm(folder, { recursive: true, force: true })
})

async function expectSameBytes(
  trainer: Trainer,
  arenas = Object.keys(straight.executable.arenas),
): Promise<void> {
  expect(arenas.length).toBeGreaterThan(2)
  for (const kind of arenas as (keyof Trainer['executable']['arenas'])[]) {
    const [got, want] = [await readArena(trainer.arena(kind)), await readArena(straight.arena(kind))]
    expect(Buffer.compare(got, want), `bytes of arena ${kind}`).toBe(0)
  }
}

const state = ['parameters', 'moment1', 'moment2']

describe('a training run', () => {
  it('gives the same bytes in every arena when repeated', async () => {
    const trainer = await trainerOf(device, path, config)
    const again = await trainSteps(trainer, await sampler(path, config), 20)
    expect(again.map((r) => r.loss)).toEqual(losses)
    await expectSameBytes(trainer)
    trainer.destroy()
  })

  it('continues from a checkpoint on a new device as if nothing had happened', async () => {
    const output = join(folder, 'checkpoints')
    const data = await sampler(path, config)
    const first = await trainerOf(device, path, config)
    await trainSteps(first, data, 10)
    await saveCheckpoint(output, first, { tokens: 640, seconds: 1, data: DATA }, 2)
    first.destroy()
    const other = await open('webgpu')
    const second = await trainerOf(other, path, config)
    // What a fresh trainer holds must not matter.
    for (const kind of ['parameters', 'moment1', 'moment2', 'gradients'] as const)
      second.arena(kind).fill(255)
    await loadCheckpoint(output, 10, second, DATA, false)
    expect(second.step).toBe(10)
    const rest = await trainSteps(second, data, 10)
    expect(rest.map((r) => r.loss)).toEqual(losses.slice(10))
    await expectSameBytes(second, state)
    second.destroy()
    other.destroy()
  })

  it('shares its parameters with a generating program, without a copy', async () => {
    const data = await sampler(path, config)
    const trainer = await trainerOf(device, path, config)
    await trainSteps(trainer, data, 10)
    const spec: InferenceSpec = { context: 128, batch: 1, prefill: [16, 64], weights: 'f32', kv: 'f32' }
    const program = compile(inferenceGraph('shared', trainer.family, trainer.model, spec), device.target)
    const shared = trainer.arena('parameters')
    const generate = async (weights: Arena): Promise<number[]> => {
      const executable = await device.load(program, { arenas: { weights } })
      expect(executable.arenas.weights).toBe(weights)
      const ids: number[] = []
      for await (const id of new Generator(device, executable, spec).generate([5, 60, 70], {
        maxTokens: 20,
        temperature: 0,
      }))
        ids.push(id)
      executable.destroy()
      return ids
    }
    const before = await generate(shared)
    // The same parameters in an arena of their own give the same tokens.
    const copy = device.createArena(program.arenas.find((a) => a.kind === 'weights')!)
    copy.write(0, await readArena(shared))
    expect(await generate(copy)).toEqual(before)
    copy.destroy()
    const rest = await trainSteps(trainer, data, 10)
    expect(rest.map((r) => r.loss)).toEqual(losses.slice(10))
    await expectSameBytes(trainer, state)
    trainer.destroy()
  })

  it('refuses to continue another run', async () => {
    const output = join(folder, 'others')
    const trainer = await trainerOf(device, path, config)
    await saveCheckpoint(output, trainer, { tokens: 0, seconds: 0, data: DATA }, 2)
    const refusal = async (
      on: Device,
      changes: Record<string, unknown>,
      data: string,
    ): Promise<ExactmapError> => {
      const other = await trainerOf(on, path, trainConfig({ steps: 20, ...changes }))
      const before = await readArena(other.arena('parameters'))
      const error = await loadCheckpoint(output, 0, other, data, false).catch((e: unknown) => e)
      expect(
        Buffer.compare(await readArena(other.arena('parameters')), before),
        'parameters after the refusal',
      ).toBe(0)
      other.destroy()
      expect(error).toBeInstanceOf(ExactmapError)
      return error as ExactmapError
    }
    for (const [changes, data, word] of [
      [{ recompute: 'layer' }, DATA, 'program'],
      [{ recipe: 'bf16' }, DATA, 'program'],
      [{ seed: 4 }, DATA, 'seed'],
      [{}, 'other data', 'data'],
    ] as const) {
      const error = await refusal(device, changes, data)
      expect(error.code).toBe('conflict')
      expect(error.message).toContain(`made with ${word}`)
    }
    await loadCheckpoint(output, 0, trainer, 'other data', true)
    const damaged = await readFile(join(output, 'checkpoint-0000000', 'state.0.safetensors'))
    damaged[damaged.length - 1]! ^= 1
    await writeFile(join(output, 'checkpoint-0000000', 'state.0.safetensors'), damaged)
    await expect(loadCheckpoint(output, 0, trainer, DATA, false)).rejects.toMatchObject({
      code: 'invalid_format',
    })
    trainer.destroy()
  })
})
