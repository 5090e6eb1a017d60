import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ExactmapError } from '../../src/errors.ts'
import { chatTemplateOf, renderChat } from '../../src/formats/chat_template.ts'
import {
  loadTokenizer,
  MAX_TOKENIZER_BYTES,
  StreamDecoder,
  type Tokenizer,
} from '../../src/formats/tokenizer.ts'
import { trainBpe } from '../../src/train/tokenizer_training.ts'

const fables = readFileSync(new URL('../data/fables.txt', import.meta.url), 'utf8')
const byteLevelJson = trainBpe([fables], { vocabSize: 400 })
const byteLevel = loadTokenizer(byteLevelJson)

/** Any UTF-16, lone surrogates included, with a good share of ordinary and of astral text. */
const anyText = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: 'grapheme', maxLength: 40 }),
  fc
    .array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 20 })
    .map((units) => String.fromCharCode(...units)),
  fc
    .array(fc.constantFrom(...fables.split(' ').slice(0, 300)), { maxLength: 30 })
    .map((words) => words.join(' ')),
)
const wellFormed = (text: string): string => text.replace(/\p{Surrogate}/gu, '\ufffd')
const thrown = (run: () => unknown): ExactmapError => {
  try {
    run()
  } catch (error) {
    expect(error).toBeInstanceOf(ExactmapError)
    return error as ExactmapError
  }
  throw new Error('nothing was thrown')
}
const streamed = (tokenizer: Tokenizer, ids: Iterable<number>): string[] => {
  const decoder = new StreamDecoder(tokenizer)
  return [...Array.from(ids, (id) => decoder.push(id)), decoder.flush()]
}

/** In the manner of Llama 2: spaces as U+2581, unknown bytes as <0x..>, one leading space taken off. */
const sentencePiece = (): Record<string, unknown> => {
  const bytes = Array.from({ length: 256 }, (_, b) => `<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`)
  const tokens = ['<unk>', '<s>', '</s>', ...bytes, '\u2581', 'a', 'b', 'ab', '\u2581ab']
  return {
    added_tokens: ['<unk>', '<s>', '</s>'].map((content, id) => ({ id, content, special: true })),
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '\u2581' },
        { type: 'Replace', pattern: { String: ' ' }, content: '\u2581' },
      ],
    },
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [],
    },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      unk_token: '<unk>',
      byte_fallback: true,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: ['a b', '\u2581 ab'],
    },
  }
}

describe('byte-level tokenizers', () => {
  it('give back any text', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        expect(byteLevel.decode(byteLevel.encode(text), { special: true })).toBe(wellFormed(text))
      }),
      { seed: 1, numRuns: 300 },
    )
  })

  it('stream any text in whole characters', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        const pieces = streamed(byteLevel, byteLevel.encode(text))
        const whole = byteLevel.decode(byteLevel.encode(text))
        expect(pieces.join('')).toBe(whole)
        for (const piece of pieces) expect(/\p{Surrogate}/u.test(piece)).toBe(false)
      }),
      { seed: 2, numRuns: 300 },
    )
  })

  it('stream invalid UTF-8 as decode does', () => {
    const ids = fc.array(fc.integer({ min: 1, max: byteLevel.vocabSize - 1 }), { maxLength: 12 })
    fc.assert(
      fc.property(ids, (some) => {
        expect(streamed(byteLevel, some).join('')).toBe(byteLevel.decode(some))
      }),
      { seed: 3, numRuns: 300 },
    )
  })

  it('hold a character back until its last byte', () => {
    const ids = byteLevel.encode('x\u{1f9c0}y')
    expect(ids.length).toBe(6)
    expect(streamed(byteLevel, ids)).toEqual(['x', '', '', '', '\u{1f9c0}', 'y', ''])
    const decoder = new StreamDecoder(byteLevel)
    expect([decoder.push(ids[0]!), decoder.push(ids[1]!), decoder.flush()]).toEqual(['x', '', '\ufffd'])
  })

  it('stop holding back bytes that never become a character', () => {
    const lead = byteLevel.encode('\u{1f9c0}')[0]!
    const decoder = new StreamDecoder(byteLevel)
    const text = Array.from({ length: 1000 }, () => decoder.push(lead)).join('') + decoder.flush()
    expect(text).toBe('\ufffd'.repeat(1000))
  })

  it('encode long texts in pieces to the same ids', () => {
    // Added tokens with a space inside switch the cutting off.
    const whole = loadTokenizer({
      ...byteLevelJson,
      added_tokens: [...byteLevelJson.added_tokens, { id: 400, content: '<never a b>', special: true }],
    })
    const long = fables.repeat(6)
    expect(byteLevel.encode(long)).toEqual(whole.encode(long))
  })

  it('know special tokens and customary names', () => {
    expect([byteLevel.bos, byteLevel.eos, byteLevel.vocabSize]).toEqual([undefined, 0, 400])
    expect(byteLevel.idOf('<|endoftext|>')).toBe(0)
    expect(byteLevel.idOf('no such token')).toBeUndefined()
    const ids = byteLevel.encode('a<|endoftext|>b')
    expect(ids[1]).toBe(0)
    expect(byteLevel.decode(ids)).toBe('ab')
    expect(byteLevel.decode(ids, { special: true })).toBe('a<|endoftext|>b')
    expect(streamed(byteLevel, ids).join('')).toBe('ab')
  })

  it('handle nothing, and refuse what is no id', () => {
    expect(byteLevel.encode('')).toEqual(new Uint32Array())
    expect(byteLevel.decode([])).toBe('')
    expect(byteLevel.decode(byteLevel.encode('a\ud800b'))).toBe('a\ufffdb')
    for (const id of [-1, 400, 1.5, Number.NaN])
      expect(thrown(() => byteLevel.decode([id])).code).toBe('invalid_argument')
  })
})

describe('other tokenizers', () => {
  const llama = loadTokenizer(sentencePiece(), { bos_token: { content: '<s>' }, eos_token: '</s>' })

  it('byte fallback, BOS and the leading space', () => {
    expect([llama.bos, llama.eos]).toEqual([1, 2])
    const ids = llama.encode('ab \u00e9')
    expect([...ids]).toEqual([
      1,
      llama.idOf('\u2581ab'),
      llama.idOf('\u2581'),
      llama.idOf('<0xC3>'),
      llama.idOf('<0xA9>'),
    ])
    expect([...llama.encode('')]).toEqual([1])
    expect(llama.encode('', { special: false }).length).toBe(0)
    expect(llama.decode(ids)).toBe('ab \u00e9')
    expect(streamed(llama, ids)).toEqual(['', 'ab', ' ', '', '\u00e9', ''])
  })

  it('a stream after a prompt keeps its first space', () => {
    const word = llama.idOf('\u2581ab')!
    expect(new StreamDecoder(llama).push(word)).toBe('ab')
    expect(new StreamDecoder(llama, llama.encode('ab')).push(word)).toBe(' ab')
  })

  it('Unigram and WordPiece load; text without an id is named', () => {
    const unigram = {
      model: {
        type: 'Unigram',
        unk_id: null,
        vocab: [
          ['a', -1],
          ['b', -2],
          ['ab', -2.5],
        ],
      },
    }
    const loaded = loadTokenizer(unigram)
    expect([...loaded.encode('aab')]).toEqual([0, 2])
    expect(thrown(() => loaded.encode('axb')).code).toBe('invalid_argument')
    const wordPiece = {
      model: { type: 'WordPiece', unk_token: '[UNK]', vocab: { '[UNK]': 0, un: 1, '##do': 2 } },
    }
    expect([...loadTokenizer(wordPiece).encode('undo')]).toEqual([1, 2])
    expect([...loadTokenizer(wordPiece).encode('redo')]).toEqual([0])
  })

  it('an id without a token decodes to nothing', () => {
    const holes = loadTokenizer({ model: { type: 'BPE', vocab: { a: 0, b: 5 }, merges: [] } })
    expect(holes.vocabSize).toBe(6)
    expect(holes.decode([3])).toBe('')
  })
})

describe('malformed tokenizer.json', () => {
  const model = { type: 'BPE', vocab: { a: 0, b: 1, ab: 2 }, merges: ['a b'] }
  it.each<[string, unknown]>([
    ['no object', 7],
    ['no JSON', '{"model":'],
    ['no UTF-8', new Uint8Array([0x7b, 0xff])],
    ['no model', {}],
    ['vocab is no table', { model: { ...model, vocab: ['a'] } }],
    ['empty vocab', { model: { ...model, vocab: {} } }],
    ['id is no number', { model: { ...model, vocab: { a: '0' } } }],
    ['id out of bounds', { model: { ...model, vocab: { a: 2 ** 31 } } }],
    ['id twice', { model: { ...model, vocab: { a: 0, b: 0 } } }],
    ['merge of three', { model: { ...model, merges: ['a b c'] } }],
    ['merges missing', { model: { type: 'BPE', vocab: { a: 0 } } }],
    ['unk_id outside', { model: { type: 'Unigram', unk_id: 3, vocab: [['a', 0]] } }],
    ['score is no number', { model: { type: 'Unigram', vocab: [['a', 'b']] } }],
    ['unknown pre-tokenizer', { model, pre_tokenizer: { type: 'Nonsense' } }],
    ['broken pattern', { model, pre_tokenizer: { type: 'Split', pattern: {}, behavior: 'Isolated' } }],
    [
      'broken regex',
      { model, pre_tokenizer: { type: 'Split', pattern: { Regex: '(' }, behavior: 'Isolated' } },
    ],
    ['added token without content', { model, added_tokens: [{ id: 3 }] }],
    [
      'post-processor outside the vocabulary',
      {
        model,
        post_processor: { type: 'TemplateProcessing', single: [{ SpecialToken: { id: 'x' } }], pair: [] },
      },
    ],
  ])('%s', (_, json) => {
    expect(thrown(() => loadTokenizer(json)).code).toBe('invalid_format')
  })

  it('deep nesting, oversize, unknown models and special tokens', () => {
    let stage: unknown = { type: 'NFC' }
    for (let i = 0; i < 1000; i++) stage = { type: 'Sequence', normalizers: [stage] }
    expect(thrown(() => loadTokenizer({ model, normalizer: stage })).code).toBe('invalid_format')
    expect(thrown(() => loadTokenizer(new Uint8Array(MAX_TOKENIZER_BYTES + 1))).message).toContain('bytes')
    const unknown = thrown(() => loadTokenizer({ model: { type: 'WordLevel', vocab: {} } }))
    expect([unknown.code, unknown.message]).toEqual([
      'unsupported',
      'tokenizer.json: model type "WordLevel"; supported: BPE, Unigram, WordPiece',
    ])
    expect(thrown(() => loadTokenizer({ model }, { eos_token: '</s>' })).message).toContain("'</s>'")
  })

  it('mutated bytes give an error of ours or a tokenizer that works', () => {
    const bytes = new TextEncoder().encode(JSON.stringify(sentencePiece()))
    const edits = fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 })
    const outcomes = { loaded: 0, refused: 0 }
    fc.assert(
      fc.property(edits, (list) => {
        const copy = bytes.slice()
        for (const [at, byte] of list) copy[at] = byte
        try {
          const tokenizer = loadTokenizer(copy)
          expect(typeof tokenizer.decode(tokenizer.encode('ab \u00e9 ba'), { special: true })).toBe('string')
          outcomes.loaded++
        } catch (error) {
          expect(error).toBeInstanceOf(ExactmapError)
          outcomes.refused++
        }
      }),
      { seed: 4, numRuns: 400 },
    )
    expect(Math.min(outcomes.loaded, outcomes.refused)).toBeGreaterThan(20)
  })
})

describe('chat templates', () => {
  const template = `{{- bos_token }}
{%- for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}{{ eos_token }}
{% endfor %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}`
  const messages = [
    { role: 'user', content: ' hi ' },
    { role: 'assistant', content: 'ho' },
  ]

  it('render messages, special tokens, variables and the date', () => {
    const options = { bos: '<s>', eos: '</s>', addGenerationPrompt: true }
    expect(renderChat(template, messages, options)).toBe(
      '<s><|user|>hi</s>\n<|assistant|>ho</s>\n<|assistant|>',
    )
    const now = new Date(2024, 6, 4)
    expect(
      renderChat("{{ strftime_now('%d %b %Y') }} {{ extra }}", [], { now, variables: { extra: 1 } }),
    ).toBe('04 Jul 2024 1')
  })

  it.each<[string, string, string]>([
    ['does not parse', '{% if', 'invalid_format'],
    ['nests too deep', `{{ ${'('.repeat(50_000)}`, 'invalid_format'],
    ['is too long', ' '.repeat(2 ** 20 + 1), 'invalid_format'],
    ['refuses', "{{ raise_exception('only users') }}", 'invalid_argument'],
    [
      'calls itself',
      '{% macro f() %}{{ f() }}{{ x }}{% endmacro %}{% set x = f %}{{ f() }}{{ x.y.z }}',
      'invalid_argument',
    ],
    ['counts too far', '{{ range(1000000000) }}', 'invalid_argument'],
    [
      'loops too long',
      '{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}',
      'invalid_argument',
    ],
    [
      'doubles',
      "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
      'invalid_argument',
    ],
    [
      'doubles a list',
      '{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}',
      'invalid_argument',
    ],
  ])('a template that %s ends soon, with an error of ours', (_, hostile, code) => {
    const start = performance.now()
    expect(thrown(() => renderChat(hostile, messages)).code).toBe(code)
    // The bound is 2 s; the rest is for a busy machine.
    expect(performance.now() - start).toBeLessThan(4000)
  })

  it('are found in a configuration', () => {
    expect(chatTemplateOf({ chat_template: 'x' })).toBe('x')
    expect(chatTemplateOf({ chat_template: [{ name: 'rag', template: 'r' }] }, 'rag')).toBe('r')
    expect(chatTemplateOf({ chat_template: [{ name: 'rag', template: 'r' }] })).toBeUndefined()
    expect(chatTemplateOf(undefined)).toBeUndefined()
    expect(thrown(() => chatTemplateOf({ chat_template: 3 })).code).toBe('invalid_format')
  })
})

describe('the bytes of a token', () => {
  const joined = (tokenizer: Tokenizer, text: string): string =>
    Buffer.concat(
      Array.from(tokenizer.encode(text, { special: false }), (id) => tokenizer.bytesOf(id)),
    ).toString()

  it('join to the text of byte-level tokens, half characters included', () => {
    fc.assert(fc.property(anyText, (text) => joined(byteLevel, text) === wellFormed(text)))
    expect(joined(byteLevel, 'naïve \u{1f409}')).toBe('naïve \u{1f409}')
  })

  it('join to the text of SentencePiece tokens, with the space put before it', () => {
    const tokenizer = loadTokenizer(sentencePiece())
    expect(joined(tokenizer, 'ab a\u{1f409}b')).toBe(' ab a\u{1f409}b')
  })

  it('are none for special tokens, and an error for what is no id', () => {
    expect(byteLevel.bytesOf(byteLevel.eos!)).toHaveLength(0)
    expect(thrown(() => byteLevel.bytesOf(byteLevel.vocabSize)).code).toBe('invalid_argument')
  })
})
