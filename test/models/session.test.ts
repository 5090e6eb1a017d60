import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Device } from '../../backends/backend.ts'
import { loadModel, type Model } from '../../src/engine/load.ts'
import { decodeSession, encodeSession, type Session } from '../../src/engine/session.ts'
import { open } from '../../src/open.ts'
import { emulatedDevice } from '../helpers/cuda.ts'
import { quickWebGpu } from '../helpers/webgpu.ts'
import { temporaryFolder, tinyConfigs, writeModelFolder } from './tiny.ts'

// A sequence saved on one backend goes on on another: the cache has one layout everywhere.
const PROMPT = Array.from({ length: 70 }, (_, i) => 3 + ((17 * i) % 290))
const FIRST = 9
const THEN = 12

const devices: Record<string, Device | string> = {
  webgpu: await quickWebGpu(),
  'cuda-emulated': await emulatedDevice(),
  reference: await open('reference'),
}
const models: Record<string, Model> = {}
let folder = ''
/** What each backend generates in one go. */
const straight: Record<string, number[]> = {}

async function collect(ids: AsyncIterable<number>): Promise<number[]> {
  const all: number[] = []
  for await (const id of ids) all.push(id)
  return all
}

async function saved(model: Model): Promise<Session> {
  await collect(model.generator.generate(PROMPT, { maxTokens: FIRST, temperature: 0 }))
  // Through a file, as somebody would carry it elsewhere.
  const file = join(folder, 'saved.session')
  await writeFile(file, encodeSession(await model.generator.session()))
  return decodeSession(await readFile(file), file)
}

beforeAll(async () => {
  folder = await temporaryFolder()
  const path = await writeModelFolder(join(folder, 'qwen2'), tinyConfigs.qwen2)
  for (const [name, device] of Object.entries(devices)) {
    if (typeof device === 'string') continue
    models[name] = await loadModel(path, { device, context: 128, weights: 'f32' })
    straight[name] = await collect(
      models[name].generator.generate(PROMPT, { maxTokens: FIRST + THEN, temperature: 0 }),
    )
  }
}, 120_000)

afterAll(async () => {
  for (const model of Object.values(models)) await model.destroy()
  for (const device of Object.values(devices)) if (typeof device !== 'string') device.destroy()
  await rm(folder, { recursive: true, force: true })
})

describe('a saved session', () => {
  for (const from of Object.keys(devices))
    for (const to of Object.keys(devices))
      it(`of ${from} goes on on ${to}`, async (ctx) => {
        for (const name of [from, to]) {
          const device = devices[name]!
          if (typeof device === 'string') ctx.skip(device)
        }
        const session = await saved(models[from]!)
        expect(session.tokens).toEqual([...PROMPT, ...straight[from]!.slice(0, FIRST)])
        const rest = await collect(models[to]!.generator.resume(session, { maxTokens: THEN, temperature: 0 }))
        expect(rest).toEqual(straight[from]!.slice(FIRST))
        // It can be saved and moved again.
        const again = await models[to]!.generator.session()
        expect(again.tokens).toEqual([...session.tokens, ...rest])
      })

  it('continues the stream of its seed', async () => {
    const options = { temperature: 1, topP: 1, seed: 5 }
    const { generator } = models.webgpu!
    const all = await collect(generator.generate(PROMPT, { maxTokens: 16, ...options }))
    await collect(generator.generate(PROMPT, { maxTokens: 6, ...options }))
    const session = await generator.session()
    expect(await collect(generator.resume(session, { maxTokens: 10, ...options }))).toEqual(all.slice(6))
  })

  it('of a cache in e4m3 goes on, on the backend that wrote it', async () => {
    const device = devices.webgpu as Device
    const model = await loadModel(join(folder, 'qwen2'), { device, context: 128, weights: 'f32', kv: 'e4m3' })
    const all = await collect(model.generator.generate(PROMPT, { maxTokens: FIRST + THEN, temperature: 0 }))
    const session = await saved(model)
    expect(Object.values(session.pools).map((pool) => pool.format)).toContain('e4m3')
    const rest = await collect(model.generator.resume(session, { maxTokens: THEN, temperature: 0 }))
    expect(rest).toEqual(all.slice(FIRST))
    await model.destroy()
  })

  it('of activations in bf16 goes on with these, and is refused by f32', async () => {
    const model = await loadModel(join(folder, 'qwen2'), {
      device: devices.webgpu as Device,
      context: 128,
      weights: 'bf16',
      activations: 'bf16',
      kv: 'f16',
    })
    const all = await collect(model.generator.generate(PROMPT, { maxTokens: FIRST + THEN, temperature: 0 }))
    const session = await saved(model)
    expect(session.activations).toBe('bf16')
    expect(await collect(model.generator.resume(session, { maxTokens: THEN, temperature: 0 }))).toEqual(
      all.slice(FIRST),
    )
    await expect(
      collect(models.webgpu!.generator.resume(session, { maxTokens: THEN })),
    ).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining('activations in bf16'),
    })
    await model.destroy()
  })

  it('of a file that does not name activations has them in f32; unknown ones are an invalid_format', async () => {
    const session = await saved(models.webgpu!)
    const bytes = encodeSession(session)
    const renamed = (to: string): Uint8Array =>
      new Uint8Array(
        Buffer.from(Buffer.from(bytes).toString('latin1').replace('"activations":"f32"', to), 'latin1'),
      )
    expect((await decodeSession(renamed('"activatiONS":"f32"'), 'old')).activations).toBe('f32')
    await expect(decodeSession(renamed('"activations":"f23"'), 'new')).rejects.toMatchObject({
      code: 'invalid_format',
      message: expect.stringContaining("got 'f23'"),
    })
  })

  it('is the same bytes when it is saved twice', async () => {
    const [a, b] = [await saved(models.webgpu!), await saved(models.webgpu!)]
    expect(encodeSession(a)).toEqual(encodeSession(b))
  })

  it('is refused by a model with another cache, in words', async () => {
    const other = await loadModel(await writeModelFolder(join(folder, 'gpt2'), tinyConfigs.gpt2), {
      device: devices.reference as Device,
      context: 128,
    })
    const session = await saved(models.reference!)
    await expect(collect(other.generator.resume(session, { maxTokens: 2 }))).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining('the model it was saved from'),
    })
    // The model is none the worse for it.
    expect(await collect(other.generator.generate([1, 2], { maxTokens: 2 }))).toHaveLength(2)
    await other.destroy()
  })

  it('is refused where the context has no room', async () => {
    const session = await saved(models.reference!)
    const long = { ...session, tokens: [...session.tokens, ...Array<number>(60).fill(1)] }
    await expect(collect(models.reference!.generator.resume(long, { maxTokens: 2 }))).rejects.toMatchObject({
      code: 'invalid_argument',
    })
  })

  it('that is damaged is an invalid_format', async () => {
    const bytes = encodeSession(await saved(models.reference!))
    const file = join(folder, 'session')
    await writeFile(file, bytes)
    for (const damaged of [bytes.subarray(0, 100), bytes.subarray(0, bytes.length - 1), new Uint8Array(0)])
      await expect(decodeSession(damaged, file)).rejects.toMatchObject({ code: 'invalid_format' })
  })

  it('cannot be asked for before anything was generated', async () => {
    const fresh = await loadModel(join(folder, 'qwen2'), { device: devices.reference as Device, context: 64 })
    expect(() => fresh.generator.session()).toThrow('no session yet')
    await fresh.destroy()
  })
})
