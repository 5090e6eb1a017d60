import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { loadTokenizer } from '../../src/formats/tokenizer.ts'
import { trainBpe } from '../../src/train/tokenizer_training.ts'
import { cpuTime } from '../helpers/cpu_time.ts'

const fables = readFileSync(new URL('../data/fables.txt', import.meta.url), 'utf8')

/** The definition, slowly: count every pair of every word anew for each merge. ASCII words and spaces only. */
function slowMerges(text: string, count: number): string[] {
  const alphabet = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i))
  const ids = new Map([...alphabet, '\u0120'].map((c, i) => [c, c === '\u0120' ? 1e6 : i]))
  const words = text.match(/ ?[a-z]+/g)!.map((word) => [...word.replace(' ', '\u0120')])
  const merges: string[] = []
  for (let next = 2e6; merges.length < count; next++) {
    const pairs = new Map<string, number>()
    for (const word of words)
      for (let i = 0; i + 1 < word.length; i++) {
        const pair = `${word[i]} ${word[i + 1]}`
        pairs.set(pair, (pairs.get(pair) ?? 0) + 1)
      }
    const key = (pair: string): number[] => pair.split(' ').map((part) => ids.get(part)!)
    const [best] = [...pairs]
      .filter(([, n]) => n >= 2)
      .sort(([p, m], [q, n]) => n - m || key(p)[0]! - key(q)[0]! || key(p)[1]! - key(q)[1]!)
    if (best === undefined) break
    merges.push(best[0])
    const [left, right] = best[0].split(' ') as [string, string]
    if (!ids.has(left + right)) ids.set(left + right, next)
    for (const word of words)
      for (let i = 0; i + 1 < word.length; i++)
        if (word[i] === left && word[i + 1] === right) word.splice(i, 2, left + right)
  }
  return merges
}

describe('trainBpe', () => {
  it('makes a standard file whose tokenizer gives back the text in fewer tokens', () => {
    const json = trainBpe([fables], { vocabSize: 1024 })
    const tokenizer = loadTokenizer(JSON.stringify(json))
    expect(tokenizer.vocabSize).toBe(1024)
    expect(json.model.merges.length).toBe(1024 - 257)
    const ids = tokenizer.encode(fables)
    expect(tokenizer.decode(ids)).toBe(fables)
    expect(ids.length).toBeLessThan(fables.length / 2.5)
    expect(tokenizer.idOf('\u0120the')).toBeGreaterThan(256)
  })

  it('merges by the definition: count, then lower left id, then lower right id', () => {
    const word = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 7 })
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 25 }), (words) => {
        const text = words.join(' ')
        const merges = slowMerges(text, 40)
        // More than 40 tokens may be wanted: a merge that gives an existing token adds none.
        const trained = trainBpe([text], { vocabSize: 257 + 40 }).model.merges.map((pair) => pair.join(' '))
        expect(trained.slice(0, merges.length)).toEqual(merges)
      }),
      { seed: 5, numRuns: 150 },
    )
  })

  it('depends on neither the order of chunks nor special tokens between them', () => {
    const chunks = fables.split('\n\n\n')
    const options = { vocabSize: 600 }
    const json = trainBpe(chunks, options)
    expect(trainBpe([...chunks].reverse(), options)).toEqual(json)
    expect(trainBpe([chunks.join('<|endoftext|>')], options)).toEqual(json)
  })

  it('stops where no pair is frequent enough and reports its progress', () => {
    const seen: number[] = []
    const json = trainBpe(['abab'], { vocabSize: 400, specialTokens: [] }, ({ tokens }) => seen.push(tokens))
    expect(json.model.merges).toEqual([['a', 'b']])
    expect(seen).toEqual([257])
    expect(trainBpe([''], { vocabSize: 300 }).model.merges).toEqual([])
  })

  it('takes a megabyte with vocabulary 1024 in below 5 seconds', () => {
    // Every copy gets its own spelling, so that the distinct words grow as in real text.
    const copies = Math.ceil(1e6 / fables.length)
    const chunks = Array.from({ length: copies }, (_, i) =>
      fables.replace(/[aeiou]/g, (v, at: number) => (at % 7 < 2 ? 'aeiou'[(at + i) % 5]! : v)),
    )
    const start = cpuTime()
    trainBpe(chunks, { vocabSize: 1024 })
    expect(cpuTime() - start).toBeLessThan(5000)
  })

  it.each([
    [{ vocabSize: 256 }],
    [{ vocabSize: 1.5e3 + 0.5 }],
    [{ vocabSize: 300, specialTokens: ['<a>', '<a>'] }],
    [{ vocabSize: 300, specialTokens: ['x'] }],
    [{ vocabSize: 300, minFrequency: 0 }],
  ])('refuses %o', (options) => {
    expect(() => trainBpe(['text'], options)).toThrowError(
      expect.objectContaining({ code: 'invalid_argument' }),
    )
  })
})
