import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openNodeWebGpu } from '../../backends/webgpu/node/open.ts'
import { Generator, type GeneratorOptions } from '../../src/engine/generator.ts'
import { receiveSession, sendSession } from '../../src/engine/handover.ts'
import { type InferenceSpec, inferenceGraph } from '../../src/engine/inference_graph.ts'
import { loadModel } from '../../src/engine/load.ts'
import { type InferenceGrid, type ModelPart, rankInGrid, wholeModel } from '../../src/engine/ranks.ts'
import { openModelFolder } from '../../src/formats/model_folder.ts'
import { familyOf } from '../../src/models/index.ts'
import { type TensorReader, writeWeights } from '../../src/models/weights.ts'
import { compile, programHash } from '../../src/program/compile.ts'
import type { ArenaKind } from '../../src/program/program.ts'
import { quickWebGpu } from '../helpers/webgpu.ts'
import { Driver, type Step } from '../models/drive.ts'
import { temporaryFolder, writeModelFolder } from '../models/tiny.ts'
import {
  configs,
  expectSame,
  F16,
  F32,
  f16,
  f32,
  type ModelName,
  onGrid,
  onRanks,
  PIECES,
  PROMPT,
  prompt,
  sampling,
  TOKENS,
  type Use,
  used,
} from './inference.ts'

// Prefill and decode on several ranks in this process, against one rank.

const other = Array.from({ length: 9 }, (_, i) => 5 + ((31 * i) % 290))
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

/** Results of one rank, computed when first asked for. */
const known = new Map<string, Promise<unknown>>()
function alone<T>(model: ModelName, spec: InferenceSpec, name: string, use: Use<T>): Promise<T> {
  const key = JSON.stringify([model, spec, name])
  const found = known.get(key) ?? used(device, paths[model], spec, use)
  known.set(key, found)
  return found as Promise<T>
}

async function collect(ids: AsyncIterable<number>): Promise<number[]> {
  const all: number[] = []
  for await (const id of ids) all.push(id)
  return all
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
      steps: await used(device, paths[model], spec, greedy(spec), rank),
      samples: sampling(rank),
    }))
    for (const [number, { steps, samples }] of ranks.entries())
      if (samples) expectSame(`${model} rank ${number}`, steps, want, budget)
      else expect(steps.filter(Boolean)).toEqual([])
    // Each member goes on with what it has sampled itself, without asking the others.
    const made = ranks.filter(({ samples }) => samples)
    for (const { steps } of made)
      expect(steps.map((s) => s.token)).toEqual(made[0]!.steps.map((s) => s.token))
  })

  it.each<[InferenceGrid, number]>([
    [{ pipeline: 2, tensor: 1 }, 0],
    [{ pipeline: 2, tensor: 2 }, F32],
  ])('%o, two sequences at once, the second joining later', async (grid, budget) => {
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
    const ranks = await onGrid(grid, async (rank) => ({
      got: await used(device, paths.llama, spec, pair, rank),
      samples: sampling(rank),
    }))
    for (const { got, samples } of ranks)
      for (const [b, steps] of got.entries())
        if (samples) expectSame(`sequence ${b}`, steps, want[b]!, budget)
  })
})

describe('generation', () => {
  const generate =
    (options: GeneratorOptions): Use<number[]> =>
    (executable, many) =>
      collect(new Generator(device, executable, f32, many).generate(prompt, options))

  it.each<InferenceGrid>([
    { pipeline: 2, tensor: 1 },
    { pipeline: 1, tensor: 2 },
    { pipeline: 2, tensor: 2 },
  ])('%o samples the tokens of its seed and stops on every rank', async (grid) => {
    const options = { maxTokens: 20, temperature: 1, topP: 0.9, repetitionPenalty: 1.2, seed: 7 }
    const want = await alone('llama', f32, 'sampled', generate(options))
    expect(new Set(want).size).toBeGreaterThan(5)
    const at = want.findIndex((id, i) => i > 5 && want.indexOf(id) === i)
    const both: Use<number[][]> = async (executable, many) => [
      await generate(options)(executable, many),
      await generate({ ...options, stop: [want[at]!] })(executable, many),
    ]
    const ranks = await onGrid(grid, (rank) => used(device, paths.llama, f32, both, rank))
    for (const got of ranks) expect(got).toEqual([want, want.slice(0, at)])
  })

  it('a session of every rank goes on on the same grid', async () => {
    const grid = { pipeline: 2, tensor: 2 }
    const greedy = { temperature: 0, maxTokens: 20 }
    const want = await alone('llama', f32, 'generated', generate(greedy))
    const ranks = await onGrid(grid, (rank) =>
      used(
        device,
        paths.llama,
        f32,
        async (executable, many) => {
          const [one, two] = [0, 1].map(() => new Generator(device, executable, f32, many))
          const first = await collect(one!.generate(prompt, { ...greedy, maxTokens: 8 }))
          const session = await one!.session()
          executable.arenas.kv!.fill(0)
          return [...first, ...(await collect(two!.resume(session, { ...greedy, maxTokens: 12 })))]
        },
        rank,
      ),
    )
    for (const got of ranks) expect(got).toEqual(want)
  })
})

describe('a rank has its part', () => {
  const family = familyOf(configs.llama)
  const shape = family.parse(configs.llama)
  const bytes = (part: ModelPart, kind: ArenaKind): number =>
    compile(inferenceGraph('part', family, shape, f32, part), device.target).arenas.find(
      (a) => a.kind === kind,
    )?.bytes ?? 0
  const vectors = family
    .parameters(shape)
    .filter(({ split }) => split === undefined)
    .reduce((sum, spec) => sum + 4 * spec.shape.reduce((a, b) => a * b, 1), 0)

  it.each<InferenceGrid>([
    { pipeline: 1, tensor: 2 },
    { pipeline: 2, tensor: 1 },
    { pipeline: 2, tensor: 2 },
    { pipeline: 4, tensor: 1 },
  ])('of weights and cache: %o', (grid) => {
    const ranks = grid.pipeline * grid.tensor
    let weights = 0
    for (let rank = 0; rank < ranks; rank++) {
      const place = { pipeline: Math.floor(rank / grid.tensor), tensor: rank % grid.tensor }
      expect(bytes({ grid, place }, 'kv')).toBe(bytes(wholeModel, 'kv') / ranks)
      weights += bytes({ grid, place }, 'weights')
      // The token history is where tokens are sampled.
      expect(bytes({ grid, place }, 'state')).toBe(
        place.pipeline === grid.pipeline - 1 ? bytes(wholeModel, 'state') : 0,
      )
    }
    // All of it once; only the vectors of norms are with every tensor-parallel member.
    expect(weights).toBe(bytes(wholeModel, 'weights') + (grid.tensor - 1) * vectors)
  })

  it('and reads no more of the checkpoint', async () => {
    const part = { grid: { pipeline: 1, tensor: 2 }, place: { pipeline: 0, tensor: 1 } }
    const { arenas } = compile(inferenceGraph('part', family, shape, f32, part), device.target)
    const source = await openModelFolder(paths.llama)
    let read = 0
    const reader: TensorReader = {
      names: () => source.weights.names(),
      info: (name) => source.weights.info(name),
      readRange: (name, offset, length) => {
        read += length
        return source.weights.readRange(name, offset, length)
      },
    }
    const parameters = family.parameters(shape)
    const plan = arenas.find(({ kind }) => kind === 'weights')!
    await writeWeights(parameters, reader, plan, () => {}, undefined, { size: 2, member: 1 })
    await source.close()
    // Columns lie between those of the other member; rows do not.
    const expected = parameters.map(({ split, shape: dims }) => {
      const whole = 4 * dims.reduce((a, b) => a * b, 1)
      return split === undefined || split === 'columns' ? whole : whole / 2
    })
    expect(read).toBe(expected.reduce((a, b) => a + b, 0))
  })

  it('so a model too large for one device runs on two', async () => {
    const total = compile(inferenceGraph('whole', family, shape, f32), device.target).arenas.reduce(
      (sum, { bytes }) => sum + bytes,
      0,
    )
    const small = await openNodeWebGpu({ memory: Math.floor(0.7 * total) })
    const load = { device: small, context: 128, weights: 'f32', kv: 'f32', prompt: 'The' } as const
    await expect(loadModel(paths.llama, load)).rejects.toMatchObject({ code: 'out_of_memory' })
    const texts = await onGrid({ pipeline: 2, tensor: 1 }, async (rank) => {
      const model = await loadModel(paths.llama, { ...load, rank })
      let text = ''
      for await (const piece of model.generate('The', { maxTokens: 5, temperature: 0 })) text += piece
      await model.destroy()
      return text
    })
    expect(texts[0]!.length).toBeGreaterThan(0)
    expect(texts[1]).toBe(texts[0])
    small.destroy()
  })

  it.each<[string, InferenceGrid]>([
    ['3 tensor-parallel ranks must divide the 128 outputs of layers.0.qkv', { pipeline: 1, tensor: 3 }],
    ['4 tensor-parallel ranks must divide the 2 key-value heads', { pipeline: 1, tensor: 4 }],
    ['the model has 4 layers, the pipeline 5 stages', { pipeline: 5, tensor: 1 }],
  ])('or is refused: %s', (message, grid) => {
    const part = { grid, place: { pipeline: 0, tensor: 0 } }
    expect(() => bytes(part, 'weights')).toThrow(message)
  })

  it('or is refused where blocks of a weight format would be cut', () => {
    const part = { grid: { pipeline: 1, tensor: 2 }, place: { pipeline: 0, tensor: 0 } }
    expect(() => inferenceGraph('part', family, shape, { ...f32, weights: 'q8_0' }, part)).toThrow(
      'layers.0.down.weight is [64,88] on each of 2 tensor-parallel ranks; q8_0 needs rows of a multiple of 32',
    )
  })

  it('and members share one program', () => {
    const grid = { pipeline: 2, tensor: 2 }
    for (const pipeline of [0, 1]) {
      const [first, second] = [0, 1].map((tensor) => {
        const part = { grid, place: { pipeline, tensor } }
        return programHash(compile(inferenceGraph('part', family, shape, f32, part), device.target))
      })
      expect(second).toBe(first)
    }
  })

  it('ranks that load something else are refused by name', async () => {
    const grid = { pipeline: 2, tensor: 1 }
    const load = onRanks(2, (transport) =>
      loadModel(paths.llama, {
        device,
        rank: rankInGrid(grid, transport),
        context: transport.rank === 1 ? 64 : 128,
      }),
    )
    await expect(load).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringMatching(/rank 1 .* has model \w+, rank 0 has \w+/),
    })
  })
})

describe('a rank that prefills hands on to one that decodes', () => {
  const [FIRST, THEN] = [1, 20]

  it.each([f32, f16])('kv $kv', async (spec) => {
    const all: Use<number[]> = (executable) =>
      collect(
        new Generator(device, executable, spec).generate(prompt, { temperature: 0, maxTokens: FIRST + THEN }),
      )
    const want = await alone('llama', spec, 'all', all)
    const sent: number[] = []
    const [prefilled, decoded] = await onRanks(2, (transport) =>
      used(device, paths.llama, spec, async (executable) => {
        const generator = new Generator(device, executable, spec)
        if (transport.rank === 1) {
          const session = await receiveSession(transport, 0, executable.arenas.kv)
          return collect(generator.resume(session, { temperature: 0, maxTokens: THEN }))
        }
        const tokens = await collect(generator.generate(prompt, { temperature: 0, maxTokens: FIRST }))
        const send = transport.send.bind(transport)
        transport.send = (to, channel, bytes) => {
          sent.push(bytes.length)
          return send(to, channel, bytes)
        }
        await sendSession(transport, 1, await generator.session())
        return tokens
      }),
    )
    expect([...prefilled!, ...decoded!]).toEqual(want)
    // Length, announcement, tokens, and a page of each of 8 pools: 2 heads of 64 tokens of 16.
    expect(sent).toHaveLength(3 + 8)
    expect(sent.slice(3)).toEqual(Array(8).fill(2 * 64 * 16 * (spec.kv === 'f16' ? 2 : 4)))
  })

  it('from two tensor-parallel ranks to two others, each its heads', async () => {
    const grid = { pipeline: 1, tensor: 2 }
    const options = { temperature: 0, maxTokens: FIRST + THEN }
    const [want] = await onGrid(grid, (rank) =>
      used(
        device,
        paths.llama,
        f32,
        (executable, many) => collect(new Generator(device, executable, f32, many).generate(prompt, options)),
        rank,
      ),
    )
    const got = await onRanks(4, (transport) =>
      used(
        device,
        paths.llama,
        f32,
        async (executable, many) => {
          const generator = new Generator(device, executable, f32, many)
          if (transport.rank >= 2) {
            const session = await receiveSession(transport, transport.rank - 2, executable.arenas.kv)
            return collect(generator.resume(session, { ...options, maxTokens: THEN }))
          }
          const tokens = await collect(generator.generate(prompt, { ...options, maxTokens: FIRST }))
          await sendSession(transport, transport.rank + 2, await generator.session())
          return tokens
        },
        rankInGrid(grid, transport),
      ),
    )
    for (const member of [0, 1]) expect([...got[member]!, ...got[member + 2]!]).toEqual(want)
  })

  it('another cache is refused on both sides, before the pages are sent', async () => {
    const errors = await onRanks(2, (transport) =>
      used(device, paths.llama, transport.rank === 0 ? f16 : f32, async (executable) => {
        if (transport.rank === 1)
          return receiveSession(transport, 0, executable.arenas.kv).catch((error) => error)
        const generator = new Generator(device, executable, f16)
        await collect(generator.generate(other, { temperature: 0, maxTokens: 1 }))
        return sendSession(transport, 1, await generator.session()).catch((error) => error)
      }),
    )
    expect(errors).toMatchObject([
      { code: 'conflict', message: expect.stringContaining('rank 1 has another cache') },
      { code: 'conflict', message: expect.stringContaining('with the same KV format') },
    ])
  })
})
