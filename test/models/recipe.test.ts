import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { quickWebGpu } from '../helpers/webgpu.ts'
import { gradientsOfMany, judge, Recipes, recipeModel } from './recipes.ts'
import { temporaryFolder, writeModelFolder } from './tiny.ts'

// Training in 16 and 8 bits against f32, from the same parameters on the same data.

const STEPS = 10

const device = await quickWebGpu()
let folder = ''
let path = ''
let runs: Recipes

beforeAll(async () => {
  folder = await temporaryFolder()
  path = await writeModelFolder(join(folder, 'model'), recipeModel)
  runs = new Recipes(device, path, STEPS)
})

afterAll(async () => {
  runs.destroy()
  device.destroy()
  await rm(folder, { recursive: true, force: true })
})

describe.each([
  ['bf16', 'f32'],
  ['fp8', 'bf16'],
] as const)('%s', (recipe, base) => {
  it(`has the gradients of f32 and the losses of ${base}, but for a stated part of what rounding weights does`, async () => {
    const run = await runs.train(recipe)
    const { gradients, tensor, losses } = await judge(run, recipe, base, runs)
    expect(gradients, tensor).toBeLessThanOrEqual(1)
    expect(losses).toBeLessThanOrEqual(1)
    expect(Math.min(gradients, losses), 'differs from f32 at all').toBeGreaterThan(0)
    expect(run.losses.at(-1)).toBeLessThan(run.losses[0]!)
  }, 180_000)

  it('goes on from a checkpoint as if nothing had happened', async () => {
    const output = join(folder, `checkpoint of ${recipe}`)
    expect(await runs.resumed(recipe, 4, output)).toEqual((await runs.train(recipe)).losses)
  })
})

it.each([
  true,
  false,
])('fp8 keeps its bounds in one of many microbatches by its scales: %s', async (scales) => {
  const { losses } = await runs.train('fp8')
  const got = { losses, gradients: await gradientsOfMany(device, path, scales) }
  const { gradients } = await judge(got, 'fp8', 'bf16', runs)
  expect(gradients <= 1).toBe(scales)
})
