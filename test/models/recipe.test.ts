import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { quickWebGpu } from '../helpers/webgpu.ts'
import { FACTOR, gradientsOfMany, largestError, Recipes, recipeModel } from './recipes.ts'
import { temporaryFolder, writeModelFolder } from './tiny.ts'

// Training in 16 and 8 bits against f32, from the same parameters on the same data.

const STEPS = 10
const SEEDS = [1, 2]

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
  it(`has the gradients of f32 but for ${FACTOR.toFixed(1)} times what rounding its weights does to them`, async () => {
    const exact = await runs.train('f32')
    const spread = await runs.spread(recipe, SEEDS)
    const got = await runs.train(recipe)
    const { name, used } = largestError(got.gradients, exact.gradients, spread.gradients)
    console.log(`${recipe}: gradients use at most ${(100 * used).toFixed(0)}% of their budget (${name})`)
    expect(used, name).toBeLessThanOrEqual(1)
    expect(used).toBeGreaterThan(0)
  })

  it(`stays as near to ${base} as runs whose weights are rounded at random do to each other`, async () => {
    const expected = (await runs.train(base)).losses
    const { losses } = await runs.train(recipe)
    const spread = await runs.spread(recipe, SEEDS)
    const off = Math.max(...losses.map((loss, step) => Math.abs(loss - expected[step]!)))
    console.log(
      `${recipe}: losses ${losses[0]!.toFixed(4)} to ${losses.at(-1)!.toFixed(4)}, off ${base}'s by up to ${off.toExponential(2)}, allowed ${(FACTOR * spread.loss).toExponential(2)}`,
    )
    expect(losses.at(-1)).toBeLessThan(losses[0]!)
    expect(off).toBeGreaterThan(0)
    expect(off).toBeLessThanOrEqual(FACTOR * spread.loss)
  })
})

it.each([
  true,
  false,
])('fp8 of one of many microbatches keeps these bounds by its scales: %s', async (scales) => {
  const exact = await runs.train('f32')
  const spread = await runs.spread('fp8', SEEDS)
  const got = await gradientsOfMany(device, path, scales)
  const { name, used } = largestError(got, exact.gradients, spread.gradients)
  console.log(
    `fp8 ${scales ? 'with' : 'without'} scales: gradients use at most ${(100 * used).toFixed(0)}% of their budget (${name})`,
  )
  expect(used <= 1).toBe(scales)
})
