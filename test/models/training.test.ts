import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Device } from '../../backends/backend.ts'
import { open } from '../../src/open.ts'
import { clipFactor } from '../../src/ops/adamw.ts'
import { EPS_F32, sumDepth } from '../../src/ops/tolerance.ts'
import type { TrainConfig } from '../../src/train/config.ts'
import type { StepReport } from '../../src/train/trainer.ts'
import { askTorch, type TrainRequest, torchMissing } from '../oracle/models.ts'
import { FABLES, temporaryFolder, tinyConfigs, writeModelFolder } from './tiny.ts'
import { checkpointOf, oracleSteps, sampler, trainConfig, trainerOf, trainSteps } from './train.ts'

// Training on WebGPU: against PyTorch in float64, and in ways that must agree with each other.

const STEPS = 10
/** Nine products forward, as many back, each a sum of at most 176 terms in a tree: relative to a tensor's largest. */
const CHAIN = 18 * sumDepth(176) * EPS_F32

const device = await open('webgpu')
const reference = await open('reference')
const missing = torchMissing()
let folder = ''
const folders: Record<string, string> = {}

interface Subject {
  readonly model: keyof typeof tinyConfigs
  readonly config: TrainConfig
}
/**
 * Between them: accumulation, biases, tied heads, stretched rotary positions, masked documents with positions of
 * their own. Llama and Qwen2 have one attention, so that few kernels have to be compiled.
 */
const subjects: Record<'llama' | 'qwen2' | 'gpt2', Subject> = {
  llama: { model: 'llama', config: trainConfig({ accumulation: 2 }) },
  qwen2: { model: 'qwen2', config: trainConfig() },
  gpt2: {
    model: 'gpt2',
    config: trainConfig({ data: { files: [FABLES], document_mask: true, reset_positions: true } }),
  },
}

interface Result {
  readonly reports: StepReport[]
  /** Of the first step, after clipping. */
  readonly gradients: Map<string, Float32Array>
  /** After the last step. */
  readonly parameters: Map<string, Float32Array>
  readonly activationBytes: number
}
const results = new Map<string, Result | Error>()
let expected = new Map<string, Float64Array>()

async function train(
  model: keyof typeof tinyConfigs,
  config: TrainConfig,
  on: Device = device,
  steps = STEPS,
): Promise<Result> {
  const trainer = await trainerOf(on, folders[model]!, config)
  const data = await sampler(folders[model]!, config)
  const first = await trainSteps(trainer, data, 1)
  const factor = clipFactor(first[0]!.norm, config.optimizer.clip)
  const gradients = new Map(
    [...(await checkpointOf(trainer, 'gradients'))].map(([name, values]) => [
      name,
      values.map((v) => factor * v),
    ]),
  )
  const reports = [...first, ...(await trainSteps(trainer, data, steps - 1))]
  const parameters = await checkpointOf(trainer, 'parameters')
  const activationBytes = trainer.arena('activations').plan.bytes
  trainer.destroy()
  return { reports, gradients, parameters, activationBytes }
}

beforeAll(async () => {
  folder = await temporaryFolder()
  for (const name of ['llama', 'gpt2', 'qwen2'] as const)
    folders[name] = await writeModelFolder(join(folder, name), tinyConfigs[name])
  const requests: TrainRequest[] = []
  for (const [name, { model, config }] of Object.entries(subjects)) {
    const path = folders[model]!
    results.set(name, await train(model, config).catch((error: Error) => error))
    const { warmup, final } = config.schedule
    requests.push({
      kind: 'train',
      name,
      folder: path,
      config: { ...config.optimizer, warmup, final, steps: config.steps },
      steps: await oracleSteps(await sampler(path, config), config, STEPS),
    })
  }
  if (!missing) expected = await askTorch(requests)
}, 600_000)

afterAll(async () => {
  device.destroy()
  await rm(folder, { recursive: true, force: true })
})

function resultOf(name: string): Result {
  const result = results.get(name)
  if (!result || result instanceof Error) throw result
  return result
}

/** [largest absolute difference, largest expected magnitude]; a NaN counts as infinite. */
function compare(got: ArrayLike<number>, want: ArrayLike<number>): [number, number] {
  expect(got.length).toBe(want.length)
  let [most, scale] = [0, 0]
  for (let i = 0; i < got.length; i++) {
    const off = Math.abs(got[i]! - want[i]!)
    most = Number.isNaN(off) ? Number.POSITIVE_INFINITY : Math.max(most, off)
    scale = Math.max(scale, Math.abs(want[i]!))
  }
  return [most, scale]
}

for (const [name, { config }] of Object.entries(subjects))
  describe(`${name}, ${STEPS} AdamW steps against PyTorch`, () => {
    // Adam's update is at most rate / eps times the error of the gradient behind it.
    const sumOfRates = (reports: readonly StepReport[]): number =>
      reports.reduce((sum, r) => sum + r.learningRate, 0)

    it('the gradient of every parameter in the first step', (ctx) => {
      if (missing) ctx.skip(missing)
      const { gradients } = resultOf(name)
      let worst = 0
      for (const [key, got] of gradients) {
        const [off, scale] = compare(got, expected.get(`${name}/gradient/${key}`)!)
        worst = Math.max(worst, off / scale)
        expect(off, key).toBeLessThanOrEqual(CHAIN * scale)
      }
      expect(gradients.size).toBe(
        [...expected.keys()].filter((k) => k.startsWith(`${name}/gradient/`)).length,
      )
      console.log(
        `${name}: gradients differ by ${worst.toExponential(2)} of the tensor's largest, budget ${CHAIN.toExponential(2)}`,
      )
    })

    it('losses and gradient norms of every step', (ctx) => {
      if (missing) ctx.skip(missing)
      const { reports } = resultOf(name)
      const losses = compare(
        reports.map((r) => r.loss),
        expected.get(`${name}/loss`)!,
      )
      const norms = compare(
        reports.map((r) => r.norm),
        expected.get(`${name}/norm`)!,
      )
      console.log(
        `${name}: losses ${reports[0]!.loss} to ${reports.at(-1)!.loss}, off by ${losses[0].toExponential(2)}; norms off by ${norms[0].toExponential(2)} of ${norms[1].toFixed(2)}`,
      )
      expect(losses[0]).toBeLessThanOrEqual(CHAIN * losses[1])
      expect(norms[0]).toBeLessThanOrEqual(CHAIN * norms[1])
    })

    it('every parameter after the last step', (ctx) => {
      if (missing) ctx.skip(missing)
      const { reports, parameters } = resultOf(name)
      let worst = 0
      for (const [key, got] of parameters) {
        const [off] = compare(got, expected.get(`${name}/parameter/${key}`)!)
        const [, gradient] = compare(
          expected.get(`${name}/gradient/${key}`)!,
          expected.get(`${name}/gradient/${key}`)!,
        )
        const budget = (sumOfRates(reports) * CHAIN * gradient) / config.optimizer.eps
        worst = Math.max(worst, off / budget)
        expect(off, key).toBeLessThanOrEqual(budget)
      }
      console.log(`${name}: parameters use at most ${(100 * worst).toFixed(1)}% of their budget`)
    })
  })

describe('runs that must agree', () => {
  it('two microbatches of two rows train as one of four', async () => {
    // On the reference backend: what is compared is the trainer's own arithmetic, and no kernel for four rows has
    // to be compiled for it.
    const two = await train('llama', trainConfig({ batch: 2, accumulation: 2 }), reference, 1)
    const four = await train('llama', trainConfig({ batch: 4, accumulation: 1 }), reference, 1)
    const losses = compare(
      two.reports.map((r) => r.loss),
      four.reports.map((r) => r.loss),
    )
    expect(losses[0]).toBeLessThanOrEqual(CHAIN * losses[1])
    for (const [key, gradient] of two.gradients) {
      const [off, largest] = compare(gradient, four.gradients.get(key)!)
      expect(off, key).toBeLessThanOrEqual(CHAIN * largest)
    }
  })

  for (const model of ['qwen2', 'gpt2'] as const)
    it(`${model}: recomputing layers gives the same bits and needs fewer activation bytes`, async () => {
      const kept = resultOf(model)
      const again = await train(model, { ...subjects[model].config, recompute: 'layer' })
      console.log(
        `${model}: activations ${kept.activationBytes} bytes kept, ${again.activationBytes} bytes recomputed`,
      )
      expect(again.reports.map((r) => r.loss)).toEqual(kept.reports.map((r) => r.loss))
      expect(again.parameters).toEqual(kept.parameters)
      expect(again.activationBytes).toBeLessThan(kept.activationBytes)
    })

  it('logits that are recomputed give the losses and gradients of stored ones', async () => {
    // The tied head: its weight's gradient is a sum of the embedding's and the loss's.
    const kept = resultOf('qwen2')
    const again = await train('qwen2', { ...subjects.qwen2.config, logits: 'recomputed' }, device, 1)
    const losses = compare([again.reports[0]!.loss], [kept.reports[0]!.loss])
    expect(losses[0]).toBeLessThanOrEqual(CHAIN * losses[1])
    for (const [key, gradient] of again.gradients) {
      const [off, largest] = compare(gradient, kept.gradients.get(key)!)
      expect(off, key).toBeLessThanOrEqual(CHAIN * largest)
    }
  })

  it('a tiny model learns a tiny text by heart', async () => {
    // The shapes of the other runs, so that no further kernels have to be compiled.
    const path = folders.llama!
    const file = join(folder, 'short.txt')
    await writeFile(file, (await readFile(FABLES, 'utf8')).slice(0, 160))
    const config = trainConfig({
      steps: 60,
      data: { files: [file], order: 'sequential' },
      optimizer: { learning_rate: 5e-3, weight_decay: 0 },
      schedule: { kind: 'cosine', warmup: 10, final: 0.1 },
    })
    const trainer = await trainerOf(device, path, config)
    const start = performance.now()
    const data = await sampler(path, config, file)
    // Nearly every token of the two rows counts: it is the text that is learned.
    expect((await data.batch(0)).counted).toBeGreaterThanOrEqual(60)
    const reports = await trainSteps(trainer, data, config.steps)
    trainer.destroy()
    const reached = reports.findIndex((r) => r.loss < 0.1)
    console.log(
      `by heart: loss ${reports[0]!.loss.toFixed(2)} to ${reports.at(-1)!.loss.toFixed(4)}, below 0.1 at step ${reached + 1}, ${((performance.now() - start) / 1000).toFixed(1)} s`,
    )
    expect(reports.at(-1)!.loss).toBeLessThan(0.1)
  })
})
