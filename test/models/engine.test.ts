import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { WebGpuDevice } from '../../backends/webgpu/device.ts'
import { openAdapter } from '../../backends/webgpu/node/driver.ts'
import { readKernelLibrary } from '../../backends/webgpu/node/library.ts'
import { openNodeWebGpu } from '../../backends/webgpu/node/open.ts'
import type { InferenceSpec } from '../../src/engine/inference_graph.ts'
import { type GenerateOptions, loadModel, type Model } from '../../src/engine/load.ts'
import { ExactmapError } from '../../src/errors.ts'
import { kvFormats } from '../../src/kv_cache/layout.ts'
import { trainBpe } from '../../src/train/tokenizer_training.ts'
import { Driver, loadInference } from './drive.ts'
import { FABLES, temporaryFolder, tinyConfigs, VOCABULARY, writeModelFolder } from './tiny.ts'

// Generation as a user meets it: loadModel and what can go wrong around it.

const device = await openNodeWebGpu()
let folder = ''
let path = ''
let model: Model

beforeAll(async () => {
  folder = await temporaryFolder()
  path = await writeModelFolder(join(folder, 'llama'), tinyConfigs.llama)
  model = await loadModel(path, { device })
})

afterAll(async () => {
  await model.destroy()
  device.destroy()
  await rm(folder, { recursive: true, force: true })
})

async function text(prompt: string, options: GenerateOptions, from = model): Promise<string> {
  let all = ''
  for await (const piece of from.generate(prompt, options)) all += piece
  return all
}

async function tokens(
  prompt: readonly number[],
  options: Parameters<Model['generator']['generate']>[1],
): Promise<number[]> {
  const all: number[] = []
  for await (const id of model.generator.generate(prompt, options)) all.push(id)
  return all
}

const refusal = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'no error',
    (error: unknown) => error,
  )

describe('generation', () => {
  it('gives the same text for the same seed and another for another', async () => {
    const one = await text('The miller', { maxTokens: 40, seed: 7, temperature: 1, topP: 1 })
    expect(one.length).toBeGreaterThan(10)
    expect(await text('The miller', { maxTokens: 40, seed: 7, temperature: 1, topP: 1 })).toBe(one)
    expect(await text('The miller', { maxTokens: 40, seed: 8, temperature: 1, topP: 1 })).not.toBe(one)
  })

  it('refuses an empty prompt', async () => {
    expect(await refusal(text('', {}))).toMatchObject({
      code: 'invalid_argument',
      message: expect.stringContaining('empty'),
    })
  })

  it('refuses a prompt without room for a new token, and fills the context exactly otherwise', async () => {
    const { context } = model.spec
    const ids = Array.from({ length: context + 1 }, (_, i) => 1 + (i % 290))
    for (const length of [context, context + 1])
      expect(await refusal(tokens(ids.slice(0, length), { maxTokens: 5 }))).toMatchObject({
        code: 'invalid_argument',
        message: expect.stringContaining(`${length} tokens`),
      })
    expect(await tokens(ids.slice(0, context - 1), { maxTokens: 5, temperature: 0 })).toHaveLength(1)
    expect(await tokens(ids.slice(0, context - 3), { maxTokens: 5, temperature: 0 })).toHaveLength(3)
  })

  it('refuses options out of range', async () => {
    for (const [name, options] of Object.entries({
      temperature: { temperature: -1 },
      'top-p': { topP: 0 },
      'top-k': { topK: 1.5 },
      seed: { seed: -1 },
      'max tokens': { maxTokens: 0 },
    }))
      expect(await refusal(text('a', options)), name).toMatchObject({
        code: 'invalid_argument',
        message: expect.stringContaining(name),
      })
    // A refused call must leave no cache pages behind.
    expect(await text('a', { maxTokens: 3, temperature: 0 })).not.toBe('')
  })

  it('takes any text: bytes it never saw, lone surrogates as U+FFFD', async () => {
    const options = { maxTokens: 6, temperature: 0 }
    expect(typeof (await text('\u{1f409}\u0000\u00ff', options))).toBe('string')
    expect(await text('a\ud800b', options)).toBe(await text('a\ufffdb', options))
  })

  it('refuses ids that the model does not have', async () => {
    const other = await writeModelFolder(join(folder, 'mixed'), tinyConfigs.llama)
    const larger = trainBpe([await readFile(FABLES, 'utf8')], { vocabSize: VOCABULARY + 20 })
    await writeFile(join(other, 'tokenizer.json'), JSON.stringify(larger))
    const mixed = await loadModel(other, { device })
    const last = VOCABULARY + 19
    const prompt = mixed.tokenizer.decode([last])
    expect([...mixed.tokenizer.encode(prompt)]).toContain(last)
    expect(await refusal(text(prompt, { maxTokens: 2 }, mixed))).toMatchObject({
      code: 'invalid_argument',
      message: expect.stringContaining(String(last)),
    })
    await mixed.destroy()
  })

  it('stops before a stop token', async () => {
    const all = await tokens([10, 20, 30], { maxTokens: 12, temperature: 0 })
    expect(all).toHaveLength(12)
    const at = all.findIndex((id, i) => i > 1 && all.indexOf(id) === i)
    expect(await tokens([10, 20, 30], { maxTokens: 12, temperature: 0, stop: [all[at]!] })).toEqual(
      all.slice(0, at),
    )
  })
})

describe('replay', () => {
  it.each(
    kvFormats,
  )('reads nothing that a step did not write: NaN in dead memory changes no bit, cache in %s', async (kv) => {
    const spec: InferenceSpec = {
      context: 128,
      batch: 1,
      prefill: [64],
      weights: 'f16',
      kv,
      logits: true,
    }
    const clean = await loadInference(device, path, spec)
    const dirty = await loadInference(device, path, spec)
    for (const kind of ['activations', 'kv', 'state', 'step_input'] as const) dirty.arenas[kind]!.fill(255)
    const prompt = Array.from({ length: 11 }, (_, i) => 7 * i + 1)
    const drivers = [clean, dirty].map((executable) => new Driver(executable, spec))
    let got = [await drivers[0]!.prefill(0, prompt), await drivers[1]!.prefill(0, prompt)]
    for (let step = 0; step < 80; step++) {
      expect(got[1]!.logits, `step ${step}`).toEqual(got[0]!.logits)
      expect(got[1]!.token, `step ${step}`).toBe(got[0]!.token)
      expect(got[0]!.logits.every(Number.isFinite)).toBe(true)
      dirty.arenas.activations!.fill(255)
      dirty.arenas.step_input!.fill(255)
      got = await Promise.all(
        drivers.map(async (d) => (await d.decode(new Map([[0, prompt.length + step]])))[0]!),
      )
    }
    clean.destroy()
    dirty.destroy()
  })
})

describe('faults', () => {
  it('reports a lost device with program and segment; a new device goes on', async () => {
    const doomed = await openNodeWebGpu()
    const lost = await loadModel(path, { device: doomed })
    const seen: number[] = []
    const error = await refusal(
      (async () => {
        for await (const _ of lost.generate('The miller', {
          maxTokens: 100,
          temperature: 0,
          onToken: (id) => seen.push(id),
        })) {
          if (seen.length < 5) continue
          doomed.gpu.destroy()
          // A caller that takes its time: steps in flight fail before anybody waits for them.
          await new Promise((resolve) => setTimeout(resolve, 100))
        }
      })(),
    )
    expect(seen.length).toBeGreaterThanOrEqual(5)
    expect(seen.length).toBeLessThan(100)
    expect(error).toBeInstanceOf(ExactmapError)
    expect(error).toMatchObject({
      code: 'device_lost',
      place: { program: 'llama-inference', segment: 'decode' },
    })
    expect(await doomed.lost).toMatchObject({ code: 'device_lost' })
    // It stays lost.
    expect(await refusal(text('The miller', { maxTokens: 3 }, lost))).toMatchObject({ code: 'device_lost' })
    const fresh = await openNodeWebGpu()
    const again = await loadModel(path, { device: fresh })
    const options = { maxTokens: 20, temperature: 0 }
    expect(await text('The miller', options, again)).toBe(await text('The miller', options))
    await again.destroy()
    fresh.destroy()
  })

  it('names the kernel that does not compile', async () => {
    const { gpu, adapter } = await openAdapter()
    const library = new Map(readKernelLibrary())
    library.set('sample', `${library.get('sample')!}\nthis is no WGSL`)
    const broken = await WebGpuDevice.open({ adapter, keep: gpu, library })
    const error = await refusal(loadModel(path, { device: broken }))
    expect(error).toBeInstanceOf(ExactmapError)
    expect((error as ExactmapError).code).toBe('kernel_compile')
    expect((error as ExactmapError).place).toMatchObject({
      program: 'llama-inference',
      kernel: expect.stringContaining('sample'),
    })
    expect((error as ExactmapError).message).toMatch(/\d+:\d+/)
    broken.destroy()
  })
})
