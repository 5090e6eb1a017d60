import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'
import { inferenceSpec } from '../../src/engine/defaults.ts'
import { inferenceGraph } from '../../src/engine/inference_graph.ts'
import { compile, loadModel, parseTrainConfig, registerModel, runTraining } from '../../src/index.ts'
import { writeWeights } from '../../src/models/weights.ts'
import { quickWebGpu } from '../helpers/webgpu.ts'
import { parallel } from './own_model.ts'

// The subject is a family from outside, which any driver runs.
const device = await quickWebGpu()
const base = mkdtempSync(join(tmpdir(), 'exactmap-own-model-'))

afterAll(() => {
  device.destroy()
  rmSync(base, { recursive: true, force: true })
})

const STEPS = 20
const config = parseTrainConfig(
  `
output: result
model: { config: { architectures: [ParallelForCausalLM], width: 32, layers: 2 } }
tokenizer: { train: { vocabulary: 300 } }
data: { files: [${join(packageRoot(), 'test/data/fables.txt')}] }
steps: ${STEPS}
batch: 4
sequence: 32
optimizer: { learning_rate: 0.01 }
schedule: { kind: constant, warmup: 0 }
evaluate_batches: 2
`,
  'own_model.test.ts',
)

it('a family from outside is initialised, trained, saved, loaded and generates', async () => {
  const losses: number[] = []
  const result = await runTraining(config, {
    device,
    base,
    onProgress: ({ trainLoss }) => losses.push(trainLoss),
  })
  expect(losses).toHaveLength(STEPS)
  // 300 tokens at random cost ln 300 = 5.7 nats; only learning gets a nat below that.
  expect(losses[0]).toBeGreaterThan(4.7)
  expect(result.validationLoss).toBeLessThan(Math.log(300) - 1)

  const saved = JSON.parse(readFileSync(join(result.output, 'config.json'), 'utf8'))
  expect(saved).toMatchObject({ architectures: ['ParallelForCausalLM'], width: 32 })
  const model = await loadModel(result.output, { device })
  expect(model.family).toBe(parallel)
  const generate = async (): Promise<number[]> => {
    const ids: number[] = []
    const stream = model.generate('The river', { maxTokens: 24, seed: 3, onToken: (id) => ids.push(id) })
    for await (const _piece of stream);
    return ids
  }
  const first = await generate()
  expect(first).toHaveLength(24)
  expect(await generate()).toEqual(first)
  await model.destroy()
  // Some 8 s of CPU time, most of it the driver compiling two programs.
}, 120_000)

it('names the field of a config that does not fit', () => {
  expect(() => parallel.parse({ layers: 2, vocab_size: 300, width: 30 })).toThrow(
    expect.objectContaining({ code: 'invalid_config', message: expect.stringContaining('width') }),
  )
})

it('cannot take an architecture that has a family', () => {
  expect(() => registerModel({ ...parallel, accepts: ['LlamaForCausalLM'] })).toThrow(
    expect.objectContaining({ code: 'conflict' }),
  )
})

it('refuses a family whose parameters are not those its graph reads', async () => {
  const config = parallel.parse({ layers: 1, vocab_size: 300, width: 32 })
  const graph = inferenceGraph('unlisted', parallel, config, inferenceSpec(config, { weights: 'f32' }))
  const plan = compile(graph, device.target).arenas.find((arena) => arena.kind === 'weights')!
  const none = { names: () => [], info: () => Promise.reject(), readRange: () => Promise.reject() }
  const missing = expect.stringContaining("'norm.weight'")
  const all = parallel.parameters(config)
  await expect(writeWeights(all.slice(0, -1), none, plan, () => {})).rejects.toMatchObject({
    code: 'not_found',
    message: missing,
  })
  const empty = { ...plan, tensors: [] }
  await expect(writeWeights(all.slice(-1), none, empty, () => {})).rejects.toMatchObject({
    code: 'not_found',
    message: missing,
  })
})
