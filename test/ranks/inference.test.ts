import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Executable } from '../../backends/backend.ts'
import { localTransports } from '../../backends/local_transport.ts'
import type { Transport } from '../../backends/transport.ts'
import { Generator, type GeneratorOptions } from '../../src/engine/generator.ts'
import type { InferenceSpec } from '../../src/engine/inference_graph.ts'
import { type InferenceGrid, type InferenceRank, rankInGrid } from '../../src/engine/ranks.ts'
import { EPS_F32, sumDepth } from '../../src/ops/tolerance.ts'
import { runAsRank } from '../../src/parallel/run_as_rank.ts'
import { quickWebGpu } from '../helpers/webgpu.ts'
import { Driver, loadInference, type Step, sameTokens } from '../models/drive.ts'
import { temporaryFolder, tinyConfigs, VOCABULARY, writeModelFolder } from '../models/tiny.ts'

// Prefill and decode on several ranks in this process, against one rank.

/** Four layers, so that four stages have one each. */
const configs = {
  llama: { ...tinyConfigs.llama, num_hidden_layers: 4 },
  // A tied head, biases on query, key and value.
  qwen2: { ...tinyConfigs.qwen2, num_hidden_layers: 4 },
  // Biases after sums of parts, learned positions.
  gpt2: { ...tinyConfigs.gpt2, n_layer: 4 },
} as const
type ModelName = keyof typeof configs

/** Three pieces of the one bucket, then past the first page of the cache. */
const [PROMPT, TOKENS] = [40, 30]
const prompt = Array.from({ length: PROMPT }, (_, i) => 3 + ((17 * i) % 290))
const other = Array.from({ length: 9 }, (_, i) => 5 + ((31 * i) % 290))
const PIECES = [16, 16, 8]
const f32: InferenceSpec = { context: 128, batch: 1, prefill: [16], weights: 'f32', kv: 'f32', logits: true }
const f16: InferenceSpec = { ...f32, weights: 'f16', kv: 'f16' }

/**
 * Budgets of logits relative to the largest of a step. Tensor-parallel ranks add up in another order what 17 products one
 * after the other add up, at most 256 terms each, and so do the ranks they are compared with. In f16 such a difference may
 * turn the rounding of a key or value: of one of 64 components in each of four layers, as in test/models/logits.test.ts.
 */
const F32 = 2 * 17 * sumDepth(256) * EPS_F32
const F16 = F32 + (8 * 2 ** -11) / 8

const device = await quickWebGpu()
let folder = ''
const paths = {} as Record<ModelName, string>

beforeAll(async () => {
  folder = await temporaryFolder()
  for (const name of Object.keys(configs) as ModelName[])
    paths[name] = await writeModelFolder(join(folder, name), configs[name])
})

afterAll(async () => {
  device.destroy()
  await rm(folder, { recursive: true, force: true })
})

/** The body on every rank of a grid at once; one that fails ends the others. */
function onGrid<T>(grid: InferenceGrid, body: (rank: InferenceRank) => Promise<T>): Promise<T[]> {
  return onRanks(grid.pipeline * grid.tensor, (transport) => body(rankInGrid(grid, transport)))
}

const onRanks = <T>(size: number, body: (transport: Transport) => Promise<T>): Promise<T[]> =>
  Promise.all(localTransports(size).map((transport) => runAsRank(transport, () => body(transport))))

/** What a rank does with a program that is loaded for it. */
type Use<T> = (executable: Executable, many?: { rank: InferenceRank; vocab: number }) => Promise<T>

async function used<T>(model: ModelName, spec: InferenceSpec, use: Use<T>, rank?: InferenceRank): Promise<T> {
  const executable = await loadInference(device, paths[model], spec, rank)
  try {
    return await use(executable, rank && { rank, vocab: VOCABULARY })
  } finally {
    executable.destroy()
  }
}

/** Results of one rank, computed when first asked for. */
const known = new Map<string, Promise<unknown>>()
function alone<T>(model: ModelName, spec: InferenceSpec, name: string, use: Use<T>): Promise<T> {
  const key = JSON.stringify([model, spec, name])
  const found = known.get(key) ?? used(model, spec, use)
  known.set(key, found)
  return found as Promise<T>
}

const sampling = ({ grid, place }: InferenceRank): boolean => place.pipeline === grid.pipeline - 1

/** Logits within the budget and tokens equal up to near ties; without a budget the same bytes. */
function expectSame(what: string, got: readonly Step[], want: readonly Step[], budget: number): void {
  expect(got).toHaveLength(want.length)
  const steps = budget === 0 ? want.length : sameTokens(what, got, want, budget)
  for (const [i, { logits, token }] of want.slice(0, steps).entries()) {
    if (budget === 0) {
      expect(got[i], `${what}: step ${i}`).toEqual({ logits, token })
      continue
    }
    const largest = logits.reduce((a, v) => Math.max(a, Math.abs(v)), 0)
    const worst = logits.reduce((a, v, c) => Math.max(a, Math.abs(v - got[i]!.logits[c]!)), 0)
    expect(worst / largest, `${what}: step ${i}`).toBeLessThan(budget)
  }
  expect(steps).toBeGreaterThan(want.length / 2)
}

describe('greedy tokens of several ranks are those of one', () => {
  const greedy =
    (spec: InferenceSpec): Use<Step[]> =>
    (executable, many) =>
      new Driver(executable, spec, many).greedy(prompt, TOKENS, PIECES)

  it.each<[ModelName, InferenceGrid, InferenceSpec, number]>([
    ['llama', { pipeline: 2, tensor: 1 }, f32, 0],
    ['llama', { pipeline: 4, tensor: 1 }, f16, 0],
    ['qwen2', { pipeline: 4, tensor: 1 }, f32, 0],
    ['llama', { pipeline: 1, tensor: 2 }, f32, F32],
    ['llama', { pipeline: 1, tensor: 2 }, f16, F16],
    ['qwen2', { pipeline: 2, tensor: 2 }, f32, F32],
    ['gpt2', { pipeline: 1, tensor: 4 }, f32, F32],
  ])('%s %o', async (model, grid, spec, budget) => {
    const want = await alone(model, spec, 'greedy', greedy(spec))
    const ranks = await onGrid(grid, async (rank) => ({
      steps: await used(model, spec, greedy(spec), rank),
      samples: sampling(rank),
    }))
    for (const [number, { steps, samples }] of ranks.entries())
      if (samples) expectSame(`${model} rank ${number}`, steps, want, budget)
      else expect(steps.filter(Boolean)).toEqual([])
    // Members sample the same: each goes on with what it has sampled itself.
    const made = ranks.filter(({ samples }) => samples)
    for (const { steps } of made)
      expect(steps.map((s) => s.token)).toEqual(made[0]!.steps.map((s) => s.token))
  })

  it('two sequences at once, the second joining later', async () => {
    const spec = { ...f32, batch: 2 }
    const pair: Use<Step[][]> = async (executable, many) => {
      const driver = new Driver(executable, spec, many)
      const first = [
        await driver.prefill(0, prompt, PIECES),
        (await driver.decode(new Map([[0, PROMPT]])))[0]!,
      ]
      const second = [await driver.prefill(1, other)]
      for (let i = 0; i < 8; i++) {
        const at = new Map([
          [0, PROMPT + first.length - 1],
          [1, other.length + second.length - 1],
        ])
        const [a, b] = await driver.decode(at)
        first.push(a!)
        second.push(b!)
      }
      return [first, second]
    }
    const want = await alone('llama', spec, 'pair', pair)
    for (const [grid, budget] of [
      [{ pipeline: 2, tensor: 1 }, 0],
      [{ pipeline: 2, tensor: 2 }, F32],
    ] as const)
      await onGrid(grid, async (rank) => {
        const got = await used('llama', spec, pair, rank)
        if (!sampling(rank)) return
        for (const [b, steps] of got.entries()) expectSame(`sequence ${b}`, steps, want[b]!, budget)
      })
  })
})

describe('generation', () => {
  const generate =
    (options: GeneratorOptions): Use<number[]> =>
    async (executable, many) => {
      const tokens: number[] = []
      const generator = new Generator(device, executable, f32, many)
      for await (const token of generator.generate(prompt, options)) tokens.push(token)
      return tokens
    }

  it.each<InferenceGrid>([
    { pipeline: 2, tensor: 1 },
    { pipeline: 1, tensor: 2 },
    { pipeline: 2, tensor: 2 },
  ])('%o samples the tokens of its seed and stops on every rank', async (grid) => {
    const options = { maxTokens: 20, temperature: 1, topP: 0.9, repetitionPenalty: 1.2, seed: 7 }
    const want = await alone('llama', f32, 'sampled', generate(options))
    expect(new Set(want).size).toBeGreaterThan(5)
    const at = want.findIndex((id, i) => i > 5 && want.indexOf(id) === i)
    const stop = { ...options, stop: [want[at]!] }
    const ranks = await onGrid(grid, (rank) =>
      used(
        'llama',
        f32,
        async (executable, many) => [
          await generate(options)(executable, many),
          await generate(stop)(executable, many),
        ],
        rank,
      ),
    )
    for (const got of ranks) expect(got).toEqual([want, want.slice(0, at)])
  })
})
