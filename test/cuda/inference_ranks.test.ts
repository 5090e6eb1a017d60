import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { openCudaEmulated } from '../../backends/cuda/open.ts'
import type { InferenceGrid } from '../../src/engine/ranks.ts'
import { emulatedDevice } from '../helpers/cuda.ts'
import { Driver, type Step } from '../models/drive.ts'
import { temporaryFolder, writeModelFolder } from '../models/tiny.ts'
import {
  configs,
  expectSame,
  F16,
  f16,
  onGrid,
  PIECES,
  prompt,
  sampling,
  TOKENS,
  type Use,
  used,
} from '../ranks/inference.ts'

// Prefill and decode on several ranks whose messages stay on the device: exchanges inside CUDA graphs over the emulated
// NCCL, one emulated device a rank.

process.env.EXACTMAP_EMULATED_DEVICES = '4'
const probe = await emulatedDevice()
const reason = typeof probe === 'string' ? probe : ''
const folder = await temporaryFolder()
const path = await writeModelFolder(join(folder, 'llama'), configs.llama)

afterAll(async () => {
  if (typeof probe !== 'string') probe.destroy()
  await rm(folder, { recursive: true, force: true })
})

describe.skipIf(reason)(`greedy tokens of several ranks are those of one${reason && ` (${reason})`}`, () => {
  const greedy: Use<Step[]> = (executable, many) =>
    new Driver(executable, f16, many).greedy(prompt, TOKENS, PIECES)
  let alone: Promise<Step[]> | undefined

  it.each<[InferenceGrid, number]>([
    [{ pipeline: 2, tensor: 1 }, 0],
    [{ pipeline: 2, tensor: 2 }, F16],
  ])('%o', async (grid, budget) => {
    if (typeof probe === 'string') return
    alone ??= used(probe, path, f16, greedy)
    const want = await alone
    const ranks = await onGrid(grid, async (rank) => {
      const device = await openCudaEmulated(rank.transport.rank)
      const steps = await used(device, path, f16, greedy, rank)
      device.destroy()
      return { steps, samples: sampling(rank) }
    })
    const made = ranks.filter(({ samples }) => samples)
    expect(made).toHaveLength(grid.tensor)
    for (const { steps } of made) expectSame('a rank', steps, want, budget)
  })
})
