import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { emulatedDevice } from '../helpers/cuda.ts'
import { quickWebGpu } from '../helpers/webgpu.ts'
import { judge, Recipes, recipeModel } from '../models/recipes.ts'
import { temporaryFolder, writeModelFolder } from '../models/tiny.ts'

// Training in 16 and 8 bits on the emulated CUDA device, held to what f32 gives on WebGPU.

const STEPS = 10
/** Hopper's products of bf16 and of fp8, which tuning data has for larger models only; elsewhere the portable ones. */
const VARIANT = '128'

const emulated = await emulatedDevice()
const webgpu = await quickWebGpu()
let folder = ''
let path = ''

beforeAll(async () => {
  folder = await temporaryFolder()
  path = await writeModelFolder(join(folder, 'model'), recipeModel)
})

afterAll(async () => {
  webgpu.destroy()
  if (typeof emulated !== 'string') emulated.destroy()
  await rm(folder, { recursive: true, force: true })
})

describe.each([
  ['bf16', 'f32'],
  ['fp8', 'bf16'],
] as const)('%s', (recipe, base) => {
  it(`${STEPS} steps have the gradients of f32 and the losses of ${base} on WebGPU, within their bounds`, async (ctx) => {
    if (typeof emulated === 'string') return ctx.skip(emulated)
    const target = emulated.target.withVariant(VARIANT)
    const device: typeof emulated = Object.create(emulated, { target: { value: target } })
    const [there, here] = [new Recipes(webgpu, path, STEPS), new Recipes(device, path, STEPS)]
    const { gradients, tensor, losses } = await judge(await here.train(recipe), recipe, base, there)
    expect(gradients, tensor).toBeLessThanOrEqual(1)
    expect(losses).toBeLessThanOrEqual(1)
    here.destroy()
    there.destroy()
  }, 240_000)
})
