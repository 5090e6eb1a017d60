import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { WebGpuDevice } from '../../backends/webgpu/device.ts'
import { openNodeWebGpu } from '../../backends/webgpu/node/open.ts'
import { loadModel, type Model } from '../../src/engine/load.ts'
import { temporaryFolder, tinyConfigs, writeModelFolder } from './tiny.ts'
import { sampler, trainConfig, trainerOf } from './train.ts'

// A steady step makes no object of the GPU's, submits once, and moves its inputs and declared outputs only. What the
// device counts is checked against calls seen at WebGPU itself.

/** What makes objects of a device that live longer than a submission. */
const making = [
  'createBuffer',
  'createBindGroup',
  'createBindGroupLayout',
  'createPipelineLayout',
  'createShaderModule',
  'createComputePipeline',
  'createComputePipelineAsync',
  'createTexture',
  'createQuerySet',
] as const

interface Seen {
  readonly made: number
  readonly submits: number
  readonly writes: number
  readonly written: number
  /** By the device's own count. */
  readonly counted: WebGpuDevice['traffic']
}

/** What work does at WebGPU. */
async function watch(device: WebGpuDevice, work: () => Promise<unknown>): Promise<Seen> {
  const { gpu, traffic } = device
  const makers = making.map((name) => vi.spyOn(gpu, name))
  const submit = vi.spyOn(gpu.queue, 'submit')
  const write = vi.spyOn(gpu.queue, 'writeBuffer')
  const before = { created: { ...device.created }, ...traffic }
  try {
    await work()
    expect(device.created).toEqual(before.created)
    return {
      made: makers.reduce((sum, spy) => sum + spy.mock.calls.length, 0),
      submits: submit.mock.calls.length,
      writes: write.mock.calls.length,
      written: write.mock.calls.reduce((sum, [, , , , size]) => sum + size!, 0),
      counted: {
        submits: traffic.submits - before.submits,
        bytesWritten: traffic.bytesWritten - before.bytesWritten,
        readBacks: traffic.readBacks - before.readBacks,
        bytesRead: traffic.bytesRead - before.bytesRead,
      },
    }
  } finally {
    for (const spy of [...makers, submit, write]) spy.mockRestore()
  }
}

const STEPS = 40
let folder = ''
let path = ''
beforeAll(async () => {
  folder = await temporaryFolder()
  path = await writeModelFolder(join(folder, 'llama'), tinyConfigs.llama)
})
afterAll(() => rm(folder, { recursive: true, force: true }))

describe('a steady step', { timeout: 120_000 }, () => {
  let device: WebGpuDevice
  beforeAll(async () => {
    device = await openNodeWebGpu()
  })
  afterAll(() => device.destroy())

  it('of decoding: one write, one submission, the sampled id back', async () => {
    const model: Model = await loadModel(path, { device })
    const { inputs } = model.program.segments.find(({ name }) => name === 'decode')!
    const ends = inputs.map((i) => i.offset + i.bytes)
    const bytes = Math.max(...ends) - Math.min(...inputs.map((i) => i.offset))
    const before = { ...device.traffic }
    const tokens = model.generator.generate([10, 20, 30, 40, 50], { maxTokens: STEPS + 1, seed: 1 })
    // The first token comes from prefill. By then the first decode step is submitted, which the count leaves out.
    await tokens.next()
    let count = 0
    const seen = await watch(device, async () => {
      for await (const _ of tokens) count++
    })
    expect(count).toBe(STEPS)
    expect(seen).toEqual({
      made: 0,
      submits: STEPS - 1,
      writes: STEPS - 1,
      written: (STEPS - 1) * bytes,
      counted: {
        submits: STEPS - 1,
        bytesWritten: (STEPS - 1) * bytes,
        // The first decode step's id may have come before the count begins.
        readBacks: expect.any(Number),
        bytesRead: expect.any(Number),
      },
    })
    expect(device.traffic.readBacks - before.readBacks).toBe(STEPS + 1)
    // A u32, in room for two.
    expect(device.traffic.bytesRead - before.bytesRead).toBe((STEPS + 1) * 8)
    await model.destroy()
  })

  it('of training: one submission a segment, losses and the norm back', async () => {
    const config = trainConfig({ accumulation: 2 })
    const trainer = await trainerOf(device, path, config)
    const data = await sampler(path, config)
    await trainer.train(data)
    const { segments } = trainer.executable.program
    const runs = ['zero', ...trainer.compiled.entries.map((e) => e.segment), 'reduce', 'optimizer']
    const of = (name: string) => segments.find((s) => s.name === name)!
    const bytesOf = (outputs: readonly { bytes: number }[]): number =>
      outputs.reduce((sum, { bytes }) => sum + Math.ceil(bytes / 8) * 8, 0)
    const seen = await watch(device, async () => {
      for (let i = 0; i < 3; i++) await trainer.train(data)
    })
    expect(seen.made).toBe(0)
    expect(seen.submits).toBe(3 * runs.length)
    expect(seen.writes).toBe(3 * runs.filter((name) => of(name).inputs.length > 0).length)
    expect(seen.counted).toEqual({
      submits: seen.submits,
      bytesWritten: seen.written,
      readBacks: 3 * runs.filter((name) => of(name).outputs.length > 0).length,
      bytesRead: 3 * runs.reduce((sum, name) => sum + bytesOf(of(name).outputs), 0),
    })
    // Two losses of 64 tokens and one norm: nothing of the size of a parameter.
    expect(seen.counted.bytesRead / 3).toBeLessThanOrEqual(2 * 64 * 4 + 8)
    trainer.destroy()
  })
})
