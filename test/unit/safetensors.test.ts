import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { ExactmapError } from '../../src/errors.ts'
import { parseJson } from '../../src/formats/json.ts'
import { openNodeFile, writeFileAtomic, writeSafetensors } from '../../src/formats/node_file.ts'
import {
  type ByteSource,
  DTYPE_BYTES,
  encodeSafetensors,
  memorySource,
  openSafetensors,
  parseSafetensorsIndex,
  type TensorData,
} from '../../src/formats/safetensors.ts'
import { cpuTime } from '../helpers/cpu_time.ts'

const folder = mkdtempSync(join(tmpdir(), 'safetensors-'))
afterAll(() => rmSync(folder, { recursive: true }))

const text = (value: string): Uint8Array => new TextEncoder().encode(value)

/** A file with this header text and this many bytes after it. */
function fileOf(header: string | object, dataBytes = 0): Uint8Array {
  const json = text(typeof header === 'string' ? header : JSON.stringify(header))
  const out = new Uint8Array(8 + json.length + dataBytes)
  new DataView(out.buffer).setBigUint64(0, BigInt(json.length), true)
  out.set(json, 8)
  return out
}

const open = (bytes: Uint8Array) => openSafetensors(memorySource(bytes), 'x.safetensors')
const tensor = (dtype: unknown, shape: unknown, ...data_offsets: unknown[]) => ({
  dtype,
  shape,
  data_offsets,
})

async function errorOf(action: () => unknown): Promise<ExactmapError> {
  try {
    await action()
  } catch (error) {
    expect(error).toBeInstanceOf(ExactmapError)
    return error as ExactmapError
  }
  throw new Error('expected an error')
}

const sample: TensorData[] = [
  { name: 'w', dtype: 'F32', shape: [2, 3], bytes: new Uint8Array(24).map((_, i) => i) },
  { name: 'a "quoted" ü', dtype: 'BF16', shape: [3], bytes: new Uint8Array([1, 2, 3, 4, 5, 6]) },
  { name: '7', dtype: 'U8', shape: [5], bytes: new Uint8Array([9, 8, 7, 6, 5]) },
  { name: 'scalar', dtype: 'I64', shape: [], bytes: new Uint8Array(8).fill(7) },
  { name: 'empty', dtype: 'F16', shape: [0, 4], bytes: new Uint8Array(0) },
]

describe('openSafetensors', () => {
  it('reads a file written by hand from the format text', async () => {
    const header = '{"__metadata__":{"a":"b"},"t":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}   '
    const bytes = fileOf(header, 2)
    bytes.set([11, 12], bytes.length - 2)
    const file = await open(bytes)
    expect(file.metadata).toEqual({ a: 'b' })
    expect(file.tensors.get('t')).toEqual({ dtype: 'U8', shape: [2], offset: bytes.length - 2, bytes: 2 })
    expect(await file.read('t')).toEqual(new Uint8Array([11, 12]))
    expect(await file.readRange('t', 1, 1)).toEqual(new Uint8Array([12]))
    expect((await errorOf(() => file.read('u'))).code).toBe('not_found')
    expect((await errorOf(() => file.readRange('t', 1, 2))).code).toBe('invalid_argument')
    expect((await errorOf(() => file.readRange('t', -1, 1))).code).toBe('invalid_argument')
  })

  const two = (a: number, b: number, c: number, d: number) =>
    fileOf({ p: tensor('U8', [b - a], a, b), q: tensor('U8', [d - c], c, d) }, Math.max(b, d))
  const huge = fileOf('{}')
  huge[7] = 1
  const broken: [string, Uint8Array, RegExp][] = [
    ['an empty file', new Uint8Array(0), /truncated/],
    ['seven bytes', new Uint8Array(7), /truncated/],
    ['a header longer than the file', fileOf('{}').subarray(0, 9), /truncated/],
    ['a header length above 100 MB', huge, /limit/],
    ['an empty header', new Uint8Array(8), /expected a value/],
    ['a header that is no object', fileOf('[]'), /JSON object/],
    ['broken JSON', fileOf('{"t":}'), /line 1, column 6: expected a value/],
    ['text after the header object', fileOf('{}x'), /end of the file/],
    ['invalid UTF-8', fileOf('{"t":"?"}').map((b) => (b === 0x3f ? 0xff : b)), /UTF-8/],
    ['a byte order mark', fileOf('\ufeff{}'), /expected a value/],
    ['a repeated tensor', fileOf('{"t":{},"t":{}}'), /"t" is repeated/],
    ['a repeated key by escape', fileOf('{"t":{},"\\u0074":{}}'), /"t" is repeated/],
    ['a __proto__ key', fileOf('{"__proto__":{}}'), /__proto__/],
    ['a lone surrogate', fileOf('{"\\ud800":{}}'), /surrogate/],
    ['deep nesting', fileOf('['.repeat(100_000)), /nesting/],
    ['metadata that is no string', fileOf({ __metadata__: { a: 1 } }), /'a' must be a string/],
    ['metadata that is no object', fileOf({ __metadata__: 'a' }), /object of strings/],
    ['a tensor that is no object', fileOf({ t: [] }), /'t': expected an object/],
    ['an unknown dtype', fileOf({ t: tensor('F31', [], 0, 4) }, 4), /'t': dtype "F31"/],
    ['a dtype from the prototype', fileOf({ t: tensor('toString', [], 0, 4) }, 4), /dtype "toString"/],
    ['a missing shape', fileOf({ t: { dtype: 'U8', data_offsets: [0, 0] } }), /'t': shape/],
    ['a negative dim', fileOf({ t: tensor('U8', [-1], 0, 1) }, 1), /shape \[-1\]/],
    ['a fractional dim', fileOf({ t: tensor('U8', [1.5], 0, 1) }, 1), /shape \[1.5\]/],
    ['a dim as text', fileOf({ t: tensor('U8', ['1'], 0, 1) }, 1), /shape/],
    ['dims that overflow to zero', fileOf({ t: tensor('U8', [2 ** 40, 2 ** 40, 0], 0, 0) }), /2\^53/],
    ['one offset', fileOf({ t: tensor('U8', [1], 0) }, 1), /two whole numbers/],
    ['a negative offset', fileOf({ t: tensor('U8', [1], -1, 0) }, 1), /two whole numbers/],
    ['bytes that do not fit the shape', fileOf({ t: tensor('F32', [2], 0, 4) }, 4), /needs 8/],
    ['end before begin', fileOf({ t: tensor('U8', [1], 1, 0) }, 1), /needs 1/],
    ['an offset past the end', fileOf({ t: tensor('U8', [4], 0, 4) }, 3), /'t' ends at byte .* truncated/],
    ['overlapping tensors', two(0, 4, 3, 6), /'q' begins .* inside/],
    ['a hole', two(0, 4, 5, 6), /'q' begins .* hole/],
    ['a hole at the start', two(1, 4, 4, 6), /'p' begins .* hole/],
    ['bytes without a tensor', fileOf({}, 3), /3 bytes belong to no tensor/],
  ]
  it.each(broken)('refuses %s', async (_, bytes, message) => {
    const error = await errorOf(() => open(bytes))
    expect(error.code).toBe('invalid_format')
    expect(error.message).toMatch(message)
    expect(error.message).toContain('x.safetensors')
  })

  it('names line and column of broken JSON', async () => {
    const error = await errorOf(() => parseJson(text('{\n "a": 1,\n "b" 2}'), 'c.json'))
    expect(error.message).toContain(`line 3, column 6: expected ':', got "2"`)
  })

  it('parses a long header in bounded time', async () => {
    const tensors = Array.from({ length: 20_000 }, (_, i) => ({
      name: `layer.${i}`,
      dtype: 'U8',
      shape: [1],
      bytes: new Uint8Array(1),
    }))
    const start = cpuTime()
    const long = 'x'.repeat(10 * 2 ** 20)
    const file = await open(encodeSafetensors(tensors, { long }))
    expect(file.metadata.long).toBe(long)
    expect(file.tensors.size).toBe(20_000)
    expect(cpuTime() - start).toBeLessThan(5000)
  })
})

describe('encodeSafetensors', () => {
  it('gives back what went in, aligned, independent of the order', async () => {
    const bytes = encodeSafetensors(sample, { z: '1', a: '"\n' })
    expect(encodeSafetensors([...sample].reverse(), { a: '"\n', z: '1' })).toEqual(bytes)
    const file = await open(bytes)
    expect(file.metadata).toEqual({ z: '1', a: '"\n' })
    expect([...file.tensors.keys()].sort()).toEqual(sample.map((t) => t.name).sort())
    for (const { name, dtype, shape, bytes: data } of sample) {
      const info = file.tensors.get(name)!
      expect([info.dtype, info.shape]).toEqual([dtype, shape])
      expect(info.offset % DTYPE_BYTES[info.dtype]).toBe(0)
      expect(await file.read(name)).toEqual(data)
    }
  })

  it('refuses what a reader would refuse', async () => {
    const u8 = (name: string, dtype = 'U8', shape = [1]) => ({ name, dtype, shape, bytes: new Uint8Array(1) })
    for (const tensors of [
      [u8('a'), u8('a')],
      [u8('__metadata__')],
      [u8('__proto__')],
      [u8('\ud800')],
      [u8('a', 'q8_0')],
      [u8('a', 'U8', [2])],
      [u8('a', 'U8', [-1, -1])],
    ])
      expect((await errorOf(() => encodeSafetensors(tensors))).code).toBe('invalid_argument')
    expect((await errorOf(() => encodeSafetensors([], { a: 1 as unknown as string }))).code).toBe(
      'invalid_argument',
    )
  })
})

describe('files', () => {
  const path = join(folder, 'w.safetensors')

  it('writes the same bytes as in memory, also from pieces', async () => {
    const pieces = sample.map((t) => ({
      ...t,
      bytes: async function* () {
        for (let at = 0; at < t.bytes.length; at += 3) yield t.bytes.subarray(at, at + 3)
      },
    }))
    await writeSafetensors(path, pieces, { a: 'b' })
    expect(new Uint8Array(readFileSync(path))).toEqual(encodeSafetensors(sample, { a: 'b' }))
    const source = await openNodeFile(path)
    const file = await openSafetensors(source, path)
    for (const { name, bytes } of sample) expect(await file.read(name)).toEqual(bytes)
    truncateSync(path, source.size - 1)
    expect((await errorOf(() => file.read('7'))).code).toBe('io')
    await source.close()
  })

  it('leaves the old file and no other when writing fails', async () => {
    const before = join(folder, 'before')
    writeFileSync(before, 'old')
    const names = readdirSync(folder)
    const short = { name: 't', dtype: 'U8', shape: [4], bytes: () => [new Uint8Array(3)] }
    const long = { ...short, bytes: () => [new Uint8Array(3), new Uint8Array(2)] }
    for (const wrong of [short, long])
      expect((await errorOf(() => writeSafetensors(before, [wrong]))).message).toMatch(/'t' needs 4 bytes/)
    async function* failing() {
      yield text('new')
      throw new Error('source broke')
    }
    await expect(writeFileAtomic(before, failing())).rejects.toThrow('source broke')
    expect(readFileSync(before, 'utf8')).toBe('old')
    expect(readdirSync(folder)).toEqual(names)
    expect((await errorOf(() => writeFileAtomic(join(folder, 'no', 'x'), []))).code).toBe('not_found')
  })

  it('refuses what is no file and ranges outside it', async () => {
    expect((await errorOf(() => openNodeFile(join(folder, 'missing')))).code).toBe('not_found')
    expect((await errorOf(() => openNodeFile(folder))).code).toBe('io')
    writeFileSync(path, '12345')
    const file = await openNodeFile(path)
    expect(await file.read(1, 3)).toEqual(text('234'))
    for (const [offset, length] of [
      [4, 2],
      [0, 2 ** 50],
      [-1, 1],
    ] as const) {
      expect((await errorOf(() => file.read(offset, length))).code).toBe('io')
      expect((await errorOf(() => memorySource(text('12345')).read(offset, length))).code).toBe('io')
    }
    await file.close()
  })

  it('gives bytes of their own, also from a Node Buffer', async () => {
    const all = Buffer.from('0123456789')
    const part = await memorySource(all).read(2, 3)
    expect([...part]).toEqual([...text('234')])
    expect(part.buffer.byteLength).toBe(3)
    part[0] = 0
    expect(all.toString()).toBe('0123456789')
  })
})

describe('parseSafetensorsIndex', () => {
  const index = (weight_map: unknown) =>
    parseSafetensorsIndex(text(JSON.stringify({ weight_map })), 'index.json')
  it('maps tensors to shards of the same folder', async () => {
    expect(index({ a: 'model-1.safetensors' })).toEqual(new Map([['a', 'model-1.safetensors']]))
    for (const shard of [
      '/etc/x.safetensors',
      '../x.safetensors',
      'a/x.safetensors',
      'a\\x.safetensors',
      'C:x.safetensors',
      'x\u0000.safetensors',
      'x.bin',
      '',
      3,
      null,
    ])
      expect((await errorOf(() => index({ a: shard }))).code).toBe('invalid_format')
    for (const map of [{}, [], 'x', undefined])
      expect((await errorOf(() => index(map))).code).toBe('invalid_format')
  })
})

/** Properties: seeded, so that a failure repeats. */
const settings = { seed: 20_240_601, numRuns: 1500 }

/** Replaces, inserts or removes bytes, or cuts the end. */
const mutation = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  remove: fc.nat(3),
  insert: fc.oneof(
    fc.uint8Array({ maxLength: 4 }),
    fc
      .constantFrom('0', '9', '-', '.5', 'e9', '"', '{', ']', ',', '\\', 'null', '"__proto__"', ' ')
      .map(text),
  ),
  cut: fc.oneof({ weight: 9, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(200) }),
})
const mutated = (bytes: Uint8Array) =>
  fc.array(mutation, { minLength: 1, maxLength: 3 }).map((list) => {
    let out = [...bytes]
    for (const { at, remove, insert, cut } of list) {
      out.splice(Math.floor(at * out.length), remove, ...insert)
      out = out.slice(0, out.length - cut)
    }
    return Uint8Array.from(out)
  })

/** A source that fails the test on any read outside the file. */
const watched = (bytes: Uint8Array): ByteSource => ({
  size: bytes.length,
  async read(offset, length) {
    expect(offset >= 0 && length >= 0 && offset + length <= bytes.length).toBe(true)
    return bytes.slice(offset, offset + length)
  },
})

async function validOrRefused(bytes: Uint8Array): Promise<boolean> {
  let file: Awaited<ReturnType<typeof openSafetensors>>
  try {
    file = await openSafetensors(watched(bytes), 'mutant')
  } catch (error) {
    if (!(error instanceof ExactmapError) || error.code !== 'invalid_format') throw error
    return false
  }
  const tensors: TensorData[] = []
  for (const [name, { dtype, shape, bytes: size }] of file.tensors) {
    const data = await file.read(name)
    expect(data.length).toBe(size)
    tensors.push({ name, dtype, shape, bytes: data })
  }
  const again = await open(encodeSafetensors(tensors, file.metadata))
  expect(again.metadata).toEqual(file.metadata)
  for (const { name, bytes: data } of tensors) expect(await again.read(name)).toEqual(data)
  return true
}

describe('properties', () => {
  it('a mutated file is valid or refused with invalid_format', async () => {
    const bytes = encodeSafetensors(sample, { note: 'x' })
    const seen = { valid: 0, refused: 0 }
    await fc.assert(
      fc.asyncProperty(mutated(bytes), async (mutant) => {
        seen[(await validOrRefused(mutant)) ? 'valid' : 'refused']++
      }),
      settings,
    )
    // Both sides must be reached, or the test shows nothing.
    expect(seen.valid).toBeGreaterThan(10)
    expect(seen.refused).toBeGreaterThan(100)
  })

  it('a header with mutated values is valid or refused with invalid_format', async () => {
    const small = fc.oneof(
      fc.integer({ min: -1, max: 9 }),
      fc.constantFrom<unknown>(2 ** 31, 2 ** 53, 1e300, 0.5, null, '1', 'U8', 'F32', 'x', [], {}),
    )
    const info = fc.record(
      {
        dtype: fc.oneof(fc.constantFrom(...Object.keys(DTYPE_BYTES)), small),
        shape: fc.oneof({ weight: 5, arbitrary: fc.array(small, { maxLength: 3 }) }, small),
        data_offsets: fc.oneof({ weight: 5, arbitrary: fc.array(small, { maxLength: 3 }) }, small),
      },
      { requiredKeys: [] },
    )
    const header = fc.dictionary(
      fc.constantFrom('a', 'b', 'constructor', '__metadata__'),
      fc.oneof(info, small),
      { maxKeys: 3 },
    )
    await fc.assert(
      fc.asyncProperty(header, fc.nat(12), async (value, data) => {
        await validOrRefused(fileOf(value, data))
      }),
      settings,
    )
  })

  it('a mutated index is a map of plain file names or refused', () => {
    const bytes = text(
      JSON.stringify({
        metadata: { total_size: 3 },
        weight_map: { a: 'm-1.safetensors', b: 'm-2.safetensors' },
      }),
    )
    fc.assert(
      fc.property(mutated(bytes), (mutant) => {
        try {
          for (const shard of parseSafetensorsIndex(mutant, 'i').values()) expect(shard).not.toMatch(/\/|\\/)
        } catch (error) {
          if (!(error instanceof ExactmapError) || error.code !== 'invalid_format') throw error
        }
      }),
      settings,
    )
  })

  it('parseJson agrees with JSON.parse on every JSON value and on broken text', () => {
    // Repeated keys, __proto__ and lone surrogates are the stated differences.
    const part = fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"a"',
      '"b\\n\\u00e9"',
      '1',
      '-0',
      '1e5',
      '0.5',
      '01',
      '1.',
      'true',
      'nul',
      'null',
      ' ',
      '\n',
      '\t',
      "'",
      '+',
    )
    const source = fc.oneof(
      fc.json({ maxDepth: 4 }),
      fc.array(part, { maxLength: 8 }).map((parts) => parts.join('')),
      mutated(text('{"a":[1,2.5e3,{"b":null}],"c":"\\u0041\\n","d":[true,false]}')).map((b) =>
        new TextDecoder().decode(b),
      ),
    )
    let parsed = 0
    fc.assert(
      fc.property(source, (json) => {
        let expected: unknown
        let valid = true
        try {
          expected = JSON.parse(json)
        } catch {
          valid = false
        }
        try {
          expect(parseJson(text(json), 'j')).toEqual(expected)
          expect(valid).toBe(true)
          parsed++
        } catch (error) {
          if (!(error instanceof ExactmapError)) throw error
          if (valid) expect(error.message).toMatch(/repeated|__proto__|surrogate/)
        }
      }),
      settings,
    )
    expect(parsed).toBeGreaterThan(300)
  })
})
