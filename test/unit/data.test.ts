import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { ExactmapError } from '../../src/errors.ts'
import { loadTokenizer } from '../../src/formats/tokenizer.ts'
import { type Dataset, type DatasetSpec, openDataset } from '../../src/train/data/dataset.ts'
import { permute } from '../../src/train/data/permutation.ts'
import { Sampler } from '../../src/train/data/sampler.ts'
import { JoinedTokens, MemoryTokens, tokenRange } from '../../src/train/data/tokens.ts'
import { trainBpe } from '../../src/train/tokenizer_training.ts'

const fables = new URL('../data/fables.txt', import.meta.url).pathname
const text = readFileSync(fables, 'utf8')
const tokenizer = loadTokenizer(trainBpe([text], { vocabSize: 512 }))
const EOS = tokenizer.eos!
const folder = mkdtempSync(join(tmpdir(), 'exactmap-data-'))
afterAll(() => rmSync(folder, { recursive: true }))

let files = 0
/** Writes a file with this ending and returns its path. */
function file(ending: string, content: string | Uint8Array): string {
  const path = join(folder, `${files++}${ending}`)
  writeFileSync(path, content)
  return path
}
const u16 = (ids: number[]): Uint8Array => {
  const view = new DataView(new ArrayBuffer(2 * ids.length))
  ids.forEach((id, i) => {
    view.setUint16(2 * i, id, true)
  })
  return new Uint8Array(view.buffer)
}
/** llm.c's format, with any of its parts wrong if asked. */
function llmc(ids: number[], magic = 20240520, version = 1, count = ids.length): Uint8Array {
  const wide = magic === 20240801
  const view = new DataView(new ArrayBuffer(1024 + (wide ? 4 : 2) * ids.length))
  ;[magic, version, count].forEach((value, i) => {
    view.setInt32(4 * i, value, true)
  })
  ids.forEach((id, i) => {
    if (wide) view.setUint32(1024 + 4 * i, id, true)
    else view.setUint16(1024 + 2 * i, id, true)
  })
  return new Uint8Array(view.buffer)
}
async function tokensOf(data: Dataset, start = 0, length = data.length - start) {
  const range = tokenRange(length)
  await data.read(start, range)
  return { tokens: [...range.tokens], weights: [...range.weights], starts: [...range.starts] }
}
const open = (
  content: string | Uint8Array,
  ending: string,
  spec: Partial<DatasetSpec> = {},
): Promise<Dataset> => openDataset({ files: [file(ending, content)], ...spec }, tokenizer)
async function refusal(promise: Promise<unknown>): Promise<ExactmapError> {
  const error = await promise.then(
    () => undefined,
    (e: unknown) => e,
  )
  expect(error).toBeInstanceOf(ExactmapError)
  return error as ExactmapError
}
const counting = (n: number): number[] => Array.from({ length: n }, (_, i) => 1 + (i % 511))

describe('documents', () => {
  it('text files are one document each, or cut at a separator', async () => {
    const whole = await openDataset({ files: [fables, fables] }, tokenizer)
    const ids = [...tokenizer.encode(text), EOS]
    expect((await tokensOf(whole)).tokens).toEqual([...ids, ...ids])
    expect(Array.from(whole.documents)).toEqual([0, ids.length])

    const cut = await openDataset({ files: [fables], separator: '\n\n\n' }, tokenizer)
    const { tokens, starts, weights } = await tokensOf(cut)
    expect(tokens).toEqual(text.split('\n\n\n').flatMap((part) => [...tokenizer.encode(part), EOS]))
    expect(starts.reduce((a, b) => a + b)).toBe(cut.documents.length)
    expect(cut.documents.length).toBe(text.split('\n\n\n').length)
    expect(starts.every((start, i) => (start === 1) === (i === 0 || tokens[i - 1] === EOS))).toBe(true)
    expect(weights.every((weight) => weight === 1)).toBe(true)
  })

  it('lines of text, with a byte order mark and empty lines', async () => {
    const data = await open('\ufeff{"text":"one"}\r\n\n{"text":""}\n{"text":"two"}', '.jsonl')
    expect((await tokensOf(data)).tokens).toEqual([
      ...tokenizer.encode('one'),
      EOS,
      ...tokenizer.encode('two'),
      EOS,
    ])
    expect(data.documents.length).toBe(2)
  })

  it('of a conversation only what the assistant says is learned', async () => {
    const messages = [
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: 'Ho' },
      { role: 'user', content: 'More' },
      { role: 'assistant', content: 'No' },
      { role: 'user', content: 'Bye' },
    ]
    const { tokens, weights } = await tokensOf(await open(JSON.stringify({ messages }), '.jsonl'))
    expect(tokenizer.decode(tokens, { special: true })).toBe(
      'user: Hi\nassistant: Ho<|endoftext|>\nuser: More\nassistant: No<|endoftext|>\nuser: Bye\n',
    )
    const learned = tokens.filter((_, i) => weights[i] === 1)
    expect(tokenizer.decode(learned, { special: true })).toBe(' Ho<|endoftext|>\n No<|endoftext|>\n')
    const template =
      '{% for m in messages %}[{{ m.role }}]{{ m.content }};{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}'
    const own = await tokensOf(await open(JSON.stringify({ messages }), '.jsonl', { chatTemplate: template }))
    expect(tokenizer.decode(own.tokens.filter((_, i) => own.weights[i]))).toBe('Ho;No;')
  })

  it('a template that rewrites earlier turns is refused', async () => {
    const chatTemplate = '{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}'
    const line = JSON.stringify({
      messages: [
        { role: 'user', content: 'a' },
        { role: 'assistant', content: 'b' },
      ],
    })
    const error = await refusal(open(line, '.jsonl', { chatTemplate }))
    expect([error.code, error.message]).toEqual([
      'invalid_format',
      expect.stringMatching(/template changes.*jsonl:1\]/),
    ])
  })
})

describe('token files', () => {
  it('three formats, joined, with the document starts of each', async () => {
    const paths = [
      file('.bin', u16([5, EOS, 6, 7])),
      file('.bin', llmc([EOS, 8, EOS, 9])),
      file('.bin', llmc([EOS, 10], 20240801, 7)),
      file('.txt', 'the'),
    ]
    const data = await openDataset({ files: paths }, tokenizer)
    const all = await tokensOf(data)
    const the = [...tokenizer.encode('the')]
    expect(all.tokens).toEqual([5, EOS, 6, 7, EOS, 8, EOS, 9, EOS, 10, ...the, EOS])
    expect(all.starts.slice(0, 11)).toEqual([1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1])
    // Any range says the same as the whole.
    for (let start = 0; start < data.length; start++)
      for (let end = start; end <= data.length; end++) {
        const part = await tokensOf(data, start, end - start)
        expect(part.tokens).toEqual(all.tokens.slice(start, end))
        expect(part.starts).toEqual(all.starts.slice(start, end))
        expect(part.weights).toEqual(all.weights.slice(start, end))
      }
    await data.close()
  })

  it('ids are checked where they are read, also far into a file', async () => {
    const ids = counting(2 ** 20 + 100)
    ids[2 ** 20 + 50] = 512
    const data = await open(u16(ids), '.bin')
    await data.read(2 ** 20, tokenRange(50))
    const error = await refusal(data.read(2 ** 20, tokenRange(51)))
    expect([error.code, error.message]).toEqual([
      'invalid_format',
      expect.stringContaining('token 1048626 is 512'),
    ])
    await data.close()
  })
})

describe('malformed data is refused by name', () => {
  const assistant = { role: 'assistant', content: 'x' }
  it.each<[string, string, string | Uint8Array, string, RegExp]>([
    ['unknown ending', '.csv', 'a', 'invalid_argument', /unknown ending.*\.jsonl/],
    ['empty text', '.txt', '', 'invalid_format', /no text/],
    ['empty lines', '.jsonl', '\n\n', 'invalid_format', /no text/],
    ['not UTF-8', '.txt', new Uint8Array([0x61, 0xc3, 0xa9, 0xe2, 0x82, 0x41]), 'invalid_format', /byte 3 /],
    ['a surrogate in UTF-8', '.txt', new Uint8Array([0x61, 0xed, 0xa0, 0x80]), 'invalid_format', /byte 1 /],
    ['overlong UTF-8', '.txt', new Uint8Array([0x61, 0x62, 0xc0, 0x80]), 'invalid_format', /byte 2 /],
    ['cut UTF-8', '.txt', new Uint8Array([0x61, 0xf0, 0x9f, 0xa7]), 'invalid_format', /byte 1 /],
    ['a line not UTF-8', '.jsonl', new Uint8Array([0x0a, 0x22, 0xff]), 'invalid_format', /byte 2 /],
    ['a line not JSON', '.jsonl', '{"text":"a"}\n\n{"text":', 'invalid_format', /jsonl:3\]/],
    ['null', '.jsonl', 'null', 'invalid_format', /either "text".*jsonl:1\]/],
    ['a wrong key', '.jsonl', '{"txt":"a"}', 'invalid_format', /either "text"/],
    ['both keys', '.jsonl', '{"text":"a","messages":[]}', 'invalid_format', /either "text"/],
    ['a message without role', '.jsonl', '{"messages":[{"content":"a"}]}', 'invalid_format', /"role"/],
    ['a message that is null', '.jsonl', '{"messages":[null]}', 'invalid_format', /"role"/],
    [
      'nothing to learn',
      '.jsonl',
      '{"messages":[{"role":"user","content":"a"}]}',
      'invalid_format',
      /nothing to learn/,
    ],
    [
      'content that is no string',
      '.jsonl',
      JSON.stringify({ messages: [{ ...assistant, content: null }] }),
      'invalid_format',
      /not a string.*jsonl:1\]/,
    ],
    ['empty tokens', '.bin', '', 'invalid_format', /empty/],
    ['odd bytes', '.bin', new Uint8Array(7), 'invalid_format', /7 bytes/],
    ['id outside the vocabulary', '.bin', u16([1, 512]), 'invalid_format', /token 1 is 512/],
    ['magic of an evaluation file', '.bin', llmc([1], 20240522), 'invalid_format', /magic number 20240522/],
    ['version', '.bin', llmc([1], 20240520, 2), 'invalid_format', /version 2/],
    ['version of the wide format', '.bin', llmc([1], 20240801, 1), 'invalid_format', /version 1/],
    ['count', '.bin', llmc([1, 2], 20240520, 1, 3), 'invalid_format', /3 tokens, so 1030 bytes/],
    ['no tokens', '.bin', llmc([]), 'invalid_format', /0 tokens/],
  ])('%s', async (_, ending, content, code, message) => {
    const error = await refusal(open(content, ending))
    expect(error.message).toMatch(message)
    expect(error.code).toBe(code)
  })

  it('missing files, and numbers that mean nothing', async () => {
    expect((await refusal(openDataset({ files: [join(folder, 'no.bin')] }, tokenizer))).code).toBe(
      'not_found',
    )
    expect((await refusal(openDataset({ files: [join(folder, 'no.txt')] }, tokenizer))).code).toBe(
      'not_found',
    )
    expect((await refusal(openDataset({ files: [] }, tokenizer))).code).toBe('invalid_argument')
    expect((await refusal(open('a', '.txt', { validation: 1 }))).code).toBe('invalid_argument')
    expect((await refusal(open('a', '.txt', { separator: '' }))).code).toBe('invalid_argument')
    const wide = { ...tokenizer, vocabSize: 70_000 }
    const error = await refusal(openDataset({ files: [file('.bin', u16([1]))] }, wide))
    expect(error.message).toContain('70000')
  })

  it('a split shorter than one window', async () => {
    const data = await open(u16(counting(10)), '.bin', { validation: 0.3 })
    expect(() => new Sampler(data, { batch: 1, length: 7, seed: 1 })).toThrowError(
      /7 tokens; a window of 7 needs 8/,
    )
    expect(() => new Sampler(data, { batch: 1, length: 3, seed: 1, split: 'validation' })).toThrowError(
      /3 tokens/,
    )
    expect(() => new Sampler(data, { batch: 0, length: 3, seed: 1 })).toThrowError(/batch/)
    expect(() => new Sampler(data, { batch: 1, length: 3, seed: -1 })).toThrowError(/seed/)
    await data.close()
  })
})

describe('validation', () => {
  it('is the end of the data, cut at a document start if one is near', async () => {
    const memory = new MemoryTokens()
    for (const length of [40, 45, 15]) memory.addDocument([{ ids: counting(length), weight: 1 }])
    expect([...new JoinedTokens([memory, memory]).documents]).toEqual([0, 40, 85, 100, 140, 185])
    const lines = (...lengths: number[]): string =>
      lengths.map((n) => JSON.stringify({ text: 'x!'.repeat(n) })).join('\n')
    // Two tokens a repetition ("x", "!") and one at the end: 81 + 91 + 31 tokens, or 171 + 31.
    expect(tokenizer.encode('x!x!').length).toBe(4)
    const near = await open(lines(40, 45, 15), '.jsonl', { validation: 0.12 })
    expect(near.train).toEqual({ start: 0, end: 172 })
    expect(near.validation).toEqual({ start: 172, end: 203 })
    const far = await open(lines(40, 45, 15), '.jsonl', { validation: 0.5 })
    expect(far.train.end).toBe(81)
    const inside = await open(lines(40, 45, 15), '.jsonl', { validation: 0.05 })
    expect(inside.train.end).toBe(Math.floor(203 * 0.95))
  })

  it('is never read in training, and training is never read in validation', async () => {
    const ids = counting(400)
    const data = await open(u16(ids), '.bin', { validation: 0.25 })
    const touched = { train: new Set<number>(), validation: new Set<number>() }
    for (const split of ['train', 'validation'] as const)
      for (const order of ['shuffled', 'sequential'] as const) {
        const sampler = new Sampler(data, { batch: 3, length: 16, seed: 9, split, order })
        for (let row = 0; row < 200; row++)
          for (let i = 0; i <= 16; i++) touched[split].add(sampler.windowStart(row) + i)
      }
    expect(Math.max(...touched.train)).toBe(299)
    expect(touched.train.size).toBe(300)
    expect(Math.min(...touched.validation)).toBe(300)
    expect(touched.validation.size).toBe(100)
    await data.close()
  })
})

describe('the sampler', () => {
  it('permutations are one to one, and differ by seed and epoch', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 120 }), fc.nat(2 ** 32 - 1), fc.nat(50), (n, seed, epoch) => {
        const order = Array.from({ length: n }, (_, i) => permute(i, n, [seed, 0], epoch))
        expect(new Set(order).size).toBe(n)
        expect(Math.max(...order)).toBe(n - 1)
      }),
      { seed: 6, numRuns: 40 },
    )
    const order = (seed: number, epoch: number): string =>
      Array.from({ length: 50 }, (_, i) => permute(i, 50, [seed, 0], epoch)).join()
    const orders = [order(1, 0), order(1, 1), order(2, 0)]
    expect(new Set(orders).size).toBe(3)
    // Far too large for a table.
    const far = Array.from({ length: 50 }, (_, i) => permute(2 ** 40 + i, 2 ** 41, [1, 0], 0))
    expect(new Set(far).size).toBe(50)
    for (const index of far) expect(index >= 0 && index < 2 ** 41 && Number.isInteger(index)).toBe(true)
  })

  it('every place of a small permutation is reached about equally often', () => {
    const epochs = 700
    const counts = new Map<number, number>()
    for (let epoch = 0; epoch < epochs; epoch++) {
      const place = permute(3, 7, [5, 0], epoch)
      counts.set(place, (counts.get(place) ?? 0) + 1)
    }
    // Binomial(700, 1/7): mean 100, standard deviation 9.3; five of them on each side.
    for (let place = 0; place < 7; place++) expect(Math.abs(counts.get(place)! - 100)).toBeLessThan(47)
  })

  it('an epoch takes each window once; the next begins elsewhere', async () => {
    const data = await open(u16(counting(1000)), '.bin')
    const sampler = new Sampler(data, { batch: 4, length: 10, seed: 3 })
    expect(sampler.windows).toBe(98)
    const epoch = (e: number): number[] =>
      Array.from({ length: 98 }, (_, i) => sampler.windowStart(98 * e + i))
    const firsts = new Set<number>()
    for (let e = 0; e < 12; e++) {
      const starts = epoch(e).sort((a, b) => a - b)
      firsts.add(starts[0]!)
      expect(starts.every((start, i) => start === starts[0]! + 10 * i)).toBe(true)
      expect(starts[97]! + 10).toBeLessThanOrEqual(999)
    }
    expect(firsts.size).toBeGreaterThan(5)
    await data.close()
  })

  it('gives tokens and the tokens after them, the same for the same cursor', async () => {
    const data = await openDataset({ files: [fables], validation: 0.1 }, tokenizer)
    const options = { batch: 3, length: 20, seed: 11 }
    const sampler = new Sampler(data, options)
    const batch = await sampler.batch(7)
    const { tokens } = await tokensOf(data)
    for (let row = 0; row < 3; row++) {
      const start = sampler.windowStart(21 + row)
      expect([...batch.tokens.subarray(20 * row, 20 * row + 20)]).toEqual(tokens.slice(start, start + 20))
      expect([...batch.targets.subarray(20 * row, 20 * row + 20)]).toEqual(
        tokens.slice(start + 1, start + 21),
      )
    }
    expect(batch.counted).toBe(60)
    expect([...batch.positions.subarray(20, 40)]).toEqual(Array.from({ length: 20 }, (_, i) => i))
    expect(await new Sampler(data, options).batch(7)).toEqual(batch)
    // Another batch size goes on at the same cursor with the same rows.
    const [wide, narrow] = [
      new Sampler(data, { ...options, batch: 6 }),
      new Sampler(data, { ...options, batch: 1 }),
    ]
    expect((await wide.at(21)).tokens.subarray(0, 60)).toEqual(batch.tokens)
    expect((await narrow.at(23)).tokens).toEqual(batch.tokens.subarray(40))
    expect((await new Sampler(data, { ...options, seed: 12 }).batch(7)).tokens).not.toEqual(batch.tokens)
  })

  it('numbers documents, weighs targets and restarts positions', async () => {
    const messages = [
      { role: 'user', content: 'a' },
      { role: 'assistant', content: 'b' },
    ]
    const chatTemplate = '{% for m in messages %}{{ m.content }}{% endfor %}'
    const lines = Array.from({ length: 4 }, () => JSON.stringify({ messages })).join('\n')
    const [a, b] = ['a', 'b'].map((letter) => tokenizer.encode(letter)[0]!)
    const data = await open(lines, '.jsonl', { chatTemplate })
    const options = { batch: 1, length: 6, seed: 0, order: 'sequential' } as const
    const batch = await new Sampler(data, { ...options, resetPositions: true }).batch(0)
    expect([...batch.tokens]).toEqual([a, b, a, b, a, b])
    expect([...batch.targets]).toEqual([b, a, b, a, b, a])
    expect([...batch.documents]).toEqual([0, 0, 1, 1, 2, 2])
    expect([...batch.positions]).toEqual([0, 1, 0, 1, 0, 1])
    expect([...batch.weights]).toEqual([1, 0, 1, 0, 1, 0])
    expect(batch.counted).toBe(3)
    expect([...(await new Sampler(data, options).batch(0)).positions]).toEqual([0, 1, 2, 3, 4, 5])

    // In plain text everything counts but the first token of the next document.
    const plain = await open('{"text":"a"}\n{"text":"b"}\n{"text":"a"}', '.jsonl')
    const row = await new Sampler(plain, { ...options, length: 5 }).batch(0)
    expect([...row.targets]).toEqual([EOS, b, EOS, a, EOS])
    expect([...row.weights]).toEqual([1, 0, 1, 0, 1])
  })
})
