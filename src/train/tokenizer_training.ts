import { check } from '../errors.ts'
import { BYTE_CHARACTERS } from '../formats/byte_alphabet.ts'

/** GPT-2's pre-tokenizer: contractions, words, numbers and punctuation with one leading space, runs of spaces. */
const WORDS = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu

export interface BpeOptions {
  /** Tokens wanted in all: special ones, 256 bytes, merges. */
  readonly vocabSize: number
  /** Get the first ids and are never split or merged; default `['<|endoftext|>']`. */
  readonly specialTokens?: readonly string[]
  /** A pair seen less often is not merged; default 2. The vocabulary then stays smaller than asked for. */
  readonly minFrequency?: number
}

export interface BpeProgress {
  readonly tokens: number
  readonly wanted: number
}

/** A `tokenizer.json` of the kind `trainBpe` makes, ready for `JSON.stringify` or `loadTokenizer`. */
export interface BpeTokenizerJson {
  readonly version: '1.0'
  readonly added_tokens: readonly { readonly id: number; readonly content: string; readonly special: true }[]
  readonly model: {
    readonly type: 'BPE'
    readonly vocab: Readonly<Record<string, number>>
    readonly merges: readonly (readonly [string, string])[]
    readonly [key: string]: unknown
  }
  readonly [key: string]: unknown
}

/**
 * Trains a byte-level BPE tokenizer (Sennrich et al. 2016, in the byte form of GPT-2) and returns its
 * `tokenizer.json`.
 *
 * Deterministic: the most frequent pair is merged first; of equally frequent ones that with the lower left id, then
 * the lower right id. Neither the order of the chunks nor that of words matters. A word never spans two chunks, so
 * chunks should be documents or end where words do. Special tokens inside the text are left out of the counts.
 * Lone surrogates count as U+FFFD.
 *
 * Costs one pass over the text plus, per merge, the distinct words that hold the merged pair.
 *
 * @throws ExactmapError `invalid_argument` for a vocabulary below 256 + specials, or unusable special tokens
 */
export function trainBpe(
  chunks: Iterable<string>,
  options: BpeOptions,
  onProgress?: (progress: BpeProgress) => void,
): BpeTokenizerJson {
  const { vocabSize, specialTokens = ['<|endoftext|>'], minFrequency = 2 } = options
  const base = specialTokens.length + 256
  check(
    Number.isInteger(vocabSize) && vocabSize >= base && vocabSize < 2 ** 20,
    'invalid_argument',
    `vocabSize must be an integer from ${base} (256 bytes and ${specialTokens.length} special tokens) to ${2 ** 20 - 1}, got ${vocabSize}`,
  )
  check(
    new Set(specialTokens).size === specialTokens.length &&
      specialTokens.every((token) => [...token].length > 1),
    'invalid_argument',
    'special tokens must differ from each other and be longer than one character',
  )
  check(
    Number.isInteger(minFrequency) && minFrequency >= 1,
    'invalid_argument',
    'minFrequency must be 1 or more',
  )

  // Bytes come in the order of their characters, as in GPT-2's own vocabulary.
  const alphabet = [...BYTE_CHARACTERS].sort()
  const tokens = [...specialTokens, ...alphabet]
  const byteIds = BYTE_CHARACTERS.map((character) => specialTokens.length + alphabet.indexOf(character))
  const idOf = new Map(tokens.map((token, id) => [token, id]))
  const merges: [string, string][] = []
  const merged = new Set<string>()

  const pairs = new Pairs(countWords(chunks, specialTokens), byteIds)
  while (tokens.length < vocabSize) {
    const best = pairs.best()
    if (best === undefined || best.count < minFrequency) break
    const [left, right] = [tokens[best.left]!, tokens[best.right]!]
    // Two different merges can give the same text ("a"+"bc", "ab"+"c"): it keeps its first id. That can bring back
    // a pair merged before, which then needs no second rule.
    const id = idOf.get(left + right) ?? tokens.length
    if (id < specialTokens.length) {
      pairs.forbid(best)
      continue
    }
    if (id === tokens.length) {
      tokens.push(left + right)
      idOf.set(left + right, id)
    }
    const rule = JSON.stringify([left, right])
    if (!merged.has(rule)) merges.push([left, right])
    merged.add(rule)
    pairs.merge(best, id)
    onProgress?.({ tokens: tokens.length, wanted: vocabSize })
  }
  return tokenizerJson(tokens, specialTokens, merges)
}

/** How often each pre-token occurs, over the text between special tokens. */
function countWords(chunks: Iterable<string>, specialTokens: readonly string[]): Map<string, number> {
  // Longest first: where one is the start of another, the tokenizer takes the longer one too.
  const escaped = [...specialTokens]
    .sort((a, b) => b.length - a.length)
    .map((token) => token.replace(/[.*+?^${}()|[\]\\/-]/g, '\\$&'))
  const special = escaped.length > 0 ? new RegExp(escaped.join('|'), 'g') : undefined
  const counts = new Map<string, number>()
  for (const chunk of chunks)
    for (const piece of special ? chunk.split(special) : [chunk])
      for (const [word] of piece.matchAll(WORDS)) counts.set(word, (counts.get(word) ?? 0) + 1)
  return counts
}

interface Pair {
  readonly left: number
  readonly right: number
  readonly count: number
}

/** Left and right id in one number; ids stay below 2^20, so it is exact and ordered by left, then right. */
const SHIFT = 2 ** 20

/** The words as ids, and for each adjacent pair how often it occurs and in which words. */
class Pairs {
  private readonly words: number[][] = []
  private readonly frequency: number[] = []
  private readonly counts = new Map<number, number>()
  private readonly places = new Map<number, Set<number>>()
  /** A binary heap of pairs, best on top. Counts in it may be too high: `best` puts such entries back. */
  private readonly heap: { key: number; count: number }[] = []

  constructor(words: Map<string, number>, byteIds: readonly number[]) {
    const encoder = new TextEncoder()
    for (const [word, frequency] of words) {
      const ids = Array.from(encoder.encode(word), (byte) => byteIds[byte]!)
      this.words.push(ids)
      this.frequency.push(frequency)
      this.add(ids, this.words.length - 1, frequency)
    }
    for (const [key, count] of this.counts) this.push({ key, count })
  }

  best(): Pair | undefined {
    for (;;) {
      const top = this.heap[0]
      if (top === undefined) return undefined
      const count = this.counts.get(top.key) ?? 0
      if (count === top.count) return { left: Math.floor(top.key / SHIFT), right: top.key % SHIFT, count }
      this.pop()
      if (count > 0) this.push({ key: top.key, count })
    }
  }

  forbid({ left, right }: Pair): void {
    this.counts.delete(left * SHIFT + right)
  }

  /** Replaces the pair by `id` in every word that holds it. Only pairs with `id` can gain; they are pushed anew. */
  merge({ left, right }: Pair, id: number): void {
    const key = left * SHIFT + right
    const gained = new Set<number>()
    for (const index of this.places.get(key) ?? []) {
      const [before, frequency] = [this.words[index]!, this.frequency[index]!]
      const after: number[] = []
      for (let i = 0; i < before.length; i++) {
        const here = before[i] === left && before[i + 1] === right
        after.push(here ? id : before[i]!)
        if (here) i++
      }
      this.add(before, index, -frequency)
      this.words[index] = after
      for (const pair of this.add(after, index, frequency))
        if (Math.floor(pair / SHIFT) === id || pair % SHIFT === id) gained.add(pair)
    }
    this.counts.delete(key)
    this.places.delete(key)
    for (const pair of gained) {
      const count = this.counts.get(pair)
      if (count !== undefined) this.push({ key: pair, count })
    }
  }

  /** Adds a word's pairs `frequency` times (negative: takes them away); returns their keys. */
  private add(ids: readonly number[], index: number, frequency: number): number[] {
    const keys: number[] = []
    for (let i = 0; i + 1 < ids.length; i++) {
      const key = ids[i]! * SHIFT + ids[i + 1]!
      keys.push(key)
      this.counts.set(key, (this.counts.get(key) ?? 0) + frequency)
      if (frequency < 0) continue
      const places = this.places.get(key) ?? new Set()
      this.places.set(key, places.add(index))
    }
    return keys
  }

  private before(a: number, b: number): boolean {
    const [x, y] = [this.heap[a]!, this.heap[b]!]
    return x.count !== y.count ? x.count > y.count : x.key < y.key
  }

  private swap(a: number, b: number): void {
    ;[this.heap[a], this.heap[b]] = [this.heap[b]!, this.heap[a]!]
  }

  private push(entry: { key: number; count: number }): void {
    let at = this.heap.push(entry) - 1
    while (at > 0 && this.before(at, (at - 1) >> 1)) {
      this.swap(at, (at - 1) >> 1)
      at = (at - 1) >> 1
    }
  }

  private pop(): void {
    const last = this.heap.pop()!
    if (this.heap.length === 0) return
    this.heap[0] = last
    for (let at = 0; ; ) {
      let next = 2 * at + 1
      if (next >= this.heap.length) return
      if (next + 1 < this.heap.length && this.before(next + 1, next)) next++
      if (!this.before(next, at)) return
      this.swap(at, next)
      at = next
    }
  }
}

function tokenizerJson(
  tokens: readonly string[],
  specialTokens: readonly string[],
  merges: readonly [string, string][],
): BpeTokenizerJson {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true }
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: specialTokens.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  }
}
