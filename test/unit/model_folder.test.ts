import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { ExactmapError } from '../../src/errors.ts'
import { openModelFolder, parseConfigJson } from '../../src/formats/model_folder.ts'
import { encodeSafetensors } from '../../src/formats/safetensors.ts'

const root = realpathSync(mkdtempSync(join(tmpdir(), 'models-')))
afterAll(() => rmSync(root, { recursive: true }))

let made = 0
/** A folder with these files; a value that is no string or bytes is written as JSON. */
function folderOf(files: Record<string, unknown>, path = join(root, `m${made++}`)): string {
  mkdirSync(path, { recursive: true })
  for (const [name, value] of Object.entries(files))
    writeFileSync(
      join(path, name),
      typeof value === 'string' || value instanceof Uint8Array ? value : JSON.stringify(value),
    )
  return path
}

/** Three bytes that tell tensors of different names apart. */
const bytesOf = (name: string): Uint8Array => new TextEncoder().encode(name.padEnd(3, '-'))
const shard = (...names: string[]): Uint8Array =>
  encodeSafetensors(names.map((name) => ({ name, dtype: 'U8', shape: [3], bytes: bytesOf(name) })))
const config = { model_type: 'llama' }
const indexOf = (weight_map: unknown) => ({ weight_map })

async function errorOf(action: () => unknown): Promise<ExactmapError> {
  try {
    await action()
  } catch (error) {
    expect(error).toBeInstanceOf(ExactmapError)
    return error as ExactmapError
  }
  throw new Error('expected an error')
}

describe('openModelFolder', () => {
  it('opens one weight file and lists what else is there', async () => {
    const path = folderOf({
      'config.json': config,
      'model.safetensors': shard('b', 'a'),
      'tokenizer.json': {},
      'chat_template.jinja': '',
    })
    const model = await openModelFolder(path)
    expect(model.config).toEqual(config)
    expect(model.weights.names()).toEqual(['a', 'b'])
    expect(await model.weights.info('a')).toMatchObject({ dtype: 'U8', shape: [3], bytes: 3 })
    expect(await model.weights.read('b')).toEqual(bytesOf('b'))
    expect(await model.weights.readRange('b', 1, 2)).toEqual(bytesOf('b').subarray(1))
    expect(model.files).toEqual({
      tokenizer: join(path, 'tokenizer.json'),
      chatTemplate: join(path, 'chat_template.jinja'),
    })
    expect(model.weights.has('c')).toBe(false)
    expect((await errorOf(() => model.weights.read('c'))).code).toBe('not_found')
    await model.close()
  })

  it('opens shards when first needed', async () => {
    const path = folderOf({
      'config.json': config,
      'model.safetensors.index.json': indexOf({
        a: '1.safetensors',
        b: '2.safetensors',
        c: '3.safetensors',
        d: '1.safetensors',
      }),
      '1.safetensors': shard('a'),
      '3.safetensors': 'no safetensors',
    })
    const model = await openModelFolder(path)
    expect(await model.weights.read('a')).toEqual(bytesOf('a'))
    expect((await errorOf(() => model.weights.read('b'))).code).toBe('not_found')
    const broken = await errorOf(() => model.weights.info('c'))
    expect([broken.code, broken.message.includes('3.safetensors')]).toEqual(['invalid_format', true])
    expect((await errorOf(() => model.weights.read('d'))).message).toMatch(
      /places tensor 'd' in 1.safetensors, which lacks it/,
    )
    await model.close()
  })

  const cases: [string, Record<string, unknown>, string, RegExp][] = [
    [
      'no config',
      { 'model.safetensors': shard('a') },
      'not_found',
      /no config.json.*it holds model.safetensors/,
    ],
    ['an empty folder', {}, 'not_found', /empty/],
    ['no weights', { 'config.json': config, 'x.bin': '' }, 'not_found', /holds config.json, x.bin; convert/],
    ['broken config', { 'config.json': '{\n"a" 1}' }, 'invalid_config', /line 2, column 5/],
    ['a config that is a list', { 'config.json': [] }, 'invalid_config', /JSON object/],
    ['a config of 9 MiB', { 'config.json': ' '.repeat(9 * 2 ** 20) }, 'invalid_config', /limit/],
    ['broken weights', { 'config.json': config, 'model.safetensors': 'x' }, 'invalid_format', /truncated/],
    [
      'a broken index',
      { 'config.json': config, 'model.safetensors.index.json': {} },
      'invalid_format',
      /weight_map/,
    ],
    [
      'an index that leaves',
      { 'config.json': config, 'model.safetensors.index.json': indexOf({ a: '../m0/model.safetensors' }) },
      'invalid_format',
      /same folder/,
    ],
  ]
  it.each(cases)('refuses %s', async (_, files, code, message) => {
    const error = await errorOf(() => openModelFolder(folderOf(files)))
    expect([error.code, error.message]).toEqual([code, expect.stringMatching(message)])
  })

  it('refuses a missing folder', async () => {
    expect((await errorOf(() => openModelFolder(join(root, 'missing')))).code).toBe('not_found')
  })

  it('refuses links out of the folder, except the blobs of a hub cache', async () => {
    const outside = folderOf({ 'secret.safetensors': shard('a') })
    for (const name of ['model.safetensors', 'tokenizer.json']) {
      const path = folderOf({ 'config.json': config })
      symlinkSync(join(outside, 'secret.safetensors'), join(path, name))
      const error = await errorOf(() => openModelFolder(path))
      expect([error.code, error.message]).toEqual([
        'invalid_format',
        expect.stringMatching(/outside the folder/),
      ])
    }
    const sharded = folderOf({
      'config.json': config,
      'model.safetensors.index.json': indexOf({ a: 's.safetensors' }),
    })
    symlinkSync(join(outside, 'secret.safetensors'), join(sharded, 's.safetensors'))
    const model = await openModelFolder(sharded)
    expect((await errorOf(() => model.weights.read('a'))).message).toMatch(/outside the folder/)

    const cache = join(root, 'models--me--tiny')
    folderOf({ one: shard('a') }, join(cache, 'blobs'))
    const snapshot = folderOf({ 'config.json': config }, join(cache, 'snapshots', 'abc'))
    symlinkSync('../../blobs/one', join(snapshot, 'model.safetensors'))
    const cached = await openModelFolder(snapshot)
    expect(await cached.weights.read('a')).toEqual(bytesOf('a'))
    await cached.close()
    symlinkSync(join(outside, 'secret.safetensors'), join(snapshot, 'tokenizer.json'))
    expect((await errorOf(() => openModelFolder(snapshot))).message).toMatch(/outside the folder/)
  })
})

describe('parseConfigJson', () => {
  it('gives an object or invalid_config for any bytes', () => {
    const text = JSON.stringify({
      model_type: 'llama',
      rope_theta: 1e4,
      eos_token_id: [1, 2],
      nested: { a: null },
    })
    const source = new TextEncoder().encode(text)
    const edit = fc.tuple(fc.nat(source.length), fc.nat(2), fc.uint8Array({ maxLength: 3 }))
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 3 }), (edits) => {
        const bytes = [...source]
        for (const [at, remove, insert] of edits) bytes.splice(at, remove, ...insert)
        try {
          expect(parseConfigJson(Uint8Array.from(bytes), 'c')).toBeTypeOf('object')
        } catch (error) {
          if (!(error instanceof ExactmapError) || error.code !== 'invalid_config') throw error
        }
      }),
      { seed: 7, numRuns: 2000 },
    )
  })
})
