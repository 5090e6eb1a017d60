import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'
import { emulatedDevice } from '../helpers/cuda.ts'
import { judgeActivations } from '../models/activations.ts'
import { temporaryFolder, wideConfig, writeModelFolder } from '../models/tiny.ts'

// Inference with activations in bf16 on the kernels that read them: weights in bf16, and quants, whose prefill of 64 rows
// multiplies by wgmma with weights from registers.

const device = await emulatedDevice()
let folder = ''

beforeAll(async () => {
  folder = await temporaryFolder()
})

afterAll(async () => {
  if (typeof device !== 'string') device.destroy()
  await rm(folder, { recursive: true, force: true })
})

it.each([
  ['shakespeare', 'bf16', 4],
  ['wide', 'q4_0', 2],
] as const)('%s, weights in %s: logits are off those of activations in f32 by no more than weights make them', async (name, weights, layers) => {
  if (typeof device === 'string') return console.log(device)
  const path =
    name === 'wide'
      ? await writeModelFolder(join(folder, name), wideConfig(4))
      : join(packageRoot(), 'assets', name)
  const { used, tokens } = await judgeActivations(device, path, { weights, activations: 'bf16' }, layers)
  expect(used).toBeGreaterThan(0)
  expect(used).toBeLessThanOrEqual(1)
  expect(tokens).toBeGreaterThan(0)
})
