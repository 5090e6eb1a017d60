import { Tokenizer as Library } from '@huggingface/tokenizers'
import { check, ExactmapError } from '../errors.ts'
import { bytesOfToken } from './byte_alphabet.ts'
import { isJsonObject as isObject } from './json.ts'

/** A `tokenizer.json` above this size is refused before it is parsed; the largest public ones are near 35 MB. */
export const MAX_TOKENIZER_BYTES = 64 * 2 ** 20
/** No id may reach this; public vocabularies stay below 300,000. */
const MAX_VOCAB = 2 ** 22
const MODELS = ['BPE', 'Unigram', 'WordPiece'] as const
/** Names that mean begin and end of text where no `tokenizer_config.json` says so. */
const BOS_NAMES = ['<|begin_of_text|>', '<s>', '<bos>']
const EOS_NAMES = ['<|end_of_text|>', '</s>', '<eos>', '<|endoftext|>']
/** Characters per call into the library for long byte-level texts; bounds its temporary arrays. */
const CHUNK = 1 << 16

export interface Tokenizer {
  /** Highest id plus one, added tokens included. Ids without a token may lie below it. */
  readonly vocabSize: number
  readonly bos: number | undefined
  readonly eos: number | undefined
  /** Ids of all tokens marked special. */
  readonly specialIds: ReadonlySet<number>
  /**
   * Text to token ids.
   *
   * Lone surrogates (invalid UTF-16) count as U+FFFD. Empty text gives only what the post-processor adds, so
   * possibly nothing. Text a model can't express becomes its unknown token; a BPE model without one drops it
   * (as the reference implementation does), other models without one throw. Names of added tokens inside the
   * text become those tokens.
   *
   * @param options.special let the post-processor add its tokens (BOS and the like); default true. Rendered chat
   *   templates contain them already: pass false.
   * @throws ExactmapError `invalid_argument` if the text holds something without an id or is too long for the model
   */
  encode(text: string, options?: { special?: boolean }): Uint32Array
  /**
   * Token ids to text, without any "clean up" of spaces: byte-level models give back exactly what was encoded.
   * Invalid UTF-8 becomes U+FFFD. Ids below `vocabSize` that have no token (padding of the table) give nothing.
   *
   * @param options.special keep special tokens in the text; default false
   * @throws ExactmapError `invalid_argument` for a number that is not an id below `vocabSize`
   */
  decode(ids: ArrayLike<number>, options?: { special?: boolean }): string
  /** The id of a token as it is written in the vocabulary (byte-level: in the byte alphabet). */
  idOf(token: string): number | undefined
  /**
   * What a token adds inside a text, in UTF-8: for programs that print ids without this library. Nothing for special
   * tokens and ids without a token; perhaps a part of a character.
   *
   * @throws ExactmapError `invalid_argument` for a number that is not an id below `vocabSize`
   */
  bytesOf(id: number): Uint8Array
}

type Json = Record<string, unknown>

const malformed = (message: string, cause?: unknown): ExactmapError =>
  new ExactmapError('invalid_format', `tokenizer.json: ${message}`, {}, { cause })
const bad = (message: string, cause?: unknown): never => {
  throw malformed(message, cause)
}
const reason = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/**
 * Opens a Hugging Face `tokenizer.json` (models BPE, Unigram, WordPiece).
 *
 * @param json the file as bytes or text (at most `MAX_TOKENIZER_BYTES`), or its parsed value
 * @param config the parsed `tokenizer_config.json`, if there is one; names BOS and EOS. Without it they are taken
 *   from special tokens with customary names (`<s>`, `</s>`, `<|endoftext|>`, …), else undefined.
 * @throws ExactmapError `invalid_format` for anything malformed, `unsupported` for other model types
 */
export function loadTokenizer(json: unknown, config?: unknown): Tokenizer {
  const file = parseFile(json)
  check(
    config === undefined || isObject(config),
    'invalid_format',
    'tokenizer_config.json: expected an object; pass the parsed file',
  )
  const model = checkModel(file.model)
  const added = checkAdded(file.added_tokens)
  for (const key of ['normalizer', 'pre_tokenizer', 'post_processor', 'decoder']) {
    checkStage(file[key] ?? null, key, 0)
  }
  const names = { bos: tokenName(config, 'bos_token'), eos: tokenName(config, 'eos_token') }
  const library = build({ ...file, model, added_tokens: added }, config ?? {}, names.eos)

  let highest = -1
  const vocab = library.get_vocab()
  for (const id of vocab.values()) highest = Math.max(highest, id)
  for (const token of added) highest = Math.max(highest, token.id)
  const special = added.filter((token) => token.special === true)
  const find = (name: string | undefined, customary: readonly string[], key: string): number | undefined => {
    if (name === undefined) return special.find((token) => customary.includes(token.content))?.id
    const id = library.token_to_id(name)
    check(
      id !== undefined,
      'invalid_format',
      `tokenizer_config.json: ${key} '${name}' is not in the vocabulary`,
    )
    return id
  }
  return makeTokenizer(library, {
    vocabSize: highest + 1,
    bos: find(names.bos, BOS_NAMES, 'bos_token'),
    eos: find(names.eos, EOS_NAMES, 'eos_token'),
    specialIds: new Set(special.map((token) => token.id)),
    chunkable: isChunkable(file, added),
    byteLevel: hasByteLevel(file.decoder),
  })
}

function parseFile(json: unknown): Json {
  let value = json
  if (typeof json === 'string' || json instanceof Uint8Array) {
    check(
      json.length <= MAX_TOKENIZER_BYTES,
      'invalid_format',
      `tokenizer.json: ${json.length} bytes are more than the ${MAX_TOKENIZER_BYTES} that are read; is it the right file?`,
    )
    try {
      value = JSON.parse(
        typeof json === 'string' ? json : new TextDecoder('utf-8', { fatal: true }).decode(json),
      )
    } catch (error) {
      bad(`not JSON in UTF-8: ${reason(error)}`, error)
    }
  }
  return isObject(value) ? value : bad('expected an object with the key "model"')
}

/** Checks the model section so far that the library can't run into a wrong type, and fills in a missing `type`. */
function checkModel(model: unknown): Json {
  if (!isObject(model)) return bad('expected an object under "model"')
  const type =
    model.type ?? (Array.isArray(model.vocab) ? 'Unigram' : Array.isArray(model.merges) ? 'BPE' : 'WordPiece')
  if (!MODELS.includes(type as (typeof MODELS)[number]))
    throw new ExactmapError(
      'unsupported',
      `tokenizer.json: model type ${JSON.stringify(type)}; supported: ${MODELS.join(', ')}`,
    )
  if (type === 'Unigram') {
    const { vocab, unk_id } = model
    if (!Array.isArray(vocab) || vocab.length === 0)
      return bad('Unigram needs an array of [token, score] as "vocab"')
    const entry = (e: unknown): boolean =>
      Array.isArray(e) && typeof e[0] === 'string' && e[0] !== '' && Number.isFinite(e[1])
    const wrong = vocab.findIndex((e) => !entry(e))
    if (wrong >= 0) bad(`vocab entry ${wrong} is not [token, score]`)
    if (unk_id != null && !(Number.isInteger(unk_id) && (unk_id as number) in vocab))
      bad(`unk_id ${unk_id} is not an index of "vocab"`)
    return { ...model, type }
  }
  if (!isObject(model.vocab)) return bad(`${type} needs an object of token to id as "vocab"`)
  const seen = new Set<unknown>()
  for (const [token, id] of Object.entries(model.vocab)) {
    checkId(id, token)
    if (seen.has(id)) bad(`id ${id} is given twice, the second time to '${token}'`)
    seen.add(id)
  }
  if (seen.size === 0) bad('"vocab" is empty')
  for (const key of [
    'unk_token',
    'continuing_subword_prefix',
    'end_of_word_suffix',
    'continuing_subword_suffix',
  ]) {
    if (model[key] != null && typeof model[key] !== 'string') bad(`"${key}" must be a string or null`)
  }
  if (type === 'WordPiece') {
    if (!Object.hasOwn(model.vocab, String(model.unk_token)))
      bad('WordPiece needs an "unk_token" of its vocabulary')
    return { continuing_subword_prefix: '##', ...model, type }
  }
  return { ...model, type, merges: checkMerges(model.merges) }
}

/** Both spellings of merges, `"a b"` and `["a", "b"]`, as pairs. */
function checkMerges(merges: unknown): [string, string][] {
  if (!Array.isArray(merges)) return bad('BPE needs an array "merges"')
  return merges.map((merge, i) => {
    const pair = typeof merge === 'string' ? merge.split(' ') : merge
    if (
      !Array.isArray(pair) ||
      pair.length !== 2 ||
      !pair.every((part) => typeof part === 'string' && part !== '')
    )
      return bad(`merge ${i} is not a pair of tokens`)
    return pair as [string, string]
  })
}

function checkId(id: unknown, token: string): asserts id is number {
  if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= MAX_VOCAB)
    bad(`the id of '${token}' must be an integer from 0 to ${MAX_VOCAB - 1}, got ${JSON.stringify(id)}`)
}

interface Added {
  id: number
  content: string
  special?: unknown
  rstrip?: unknown
}

function checkAdded(added: unknown): Added[] {
  if (added == null) return []
  if (!Array.isArray(added)) return bad('"added_tokens" must be an array')
  return added.map((token, i) => {
    if (!isObject(token) || typeof token.content !== 'string' || token.content === '')
      return bad(`added token ${i} needs a "content"`)
    checkId(token.id, token.content)
    return token as unknown as Added
  })
}

/** Normalizers, pre-tokenizers, … are trees; the library only warns about a broken pattern, so look here. */
function checkStage(stage: unknown, key: string, depth: number): void {
  if (stage === null) return
  if (depth > 16) bad(`"${key}" is nested deeper than 16`)
  if (!isObject(stage) || typeof stage.type !== 'string')
    throw malformed(`"${key}" must be null or have a "type"`)
  for (const list of ['normalizers', 'pretokenizers', 'processors', 'decoders']) {
    if (!(list in stage)) continue
    const inner = stage[list]
    if (!Array.isArray(inner)) bad(`"${list}" of "${key}" must be an array`)
    for (const one of inner as unknown[]) checkStage(one, key, depth + 1)
  }
  const { pattern } = stage
  if (stage.type === 'Split' || stage.type === 'Replace' || pattern !== undefined) {
    const parts = isObject(pattern) ? [pattern.String, pattern.Regex].filter((p) => p !== undefined) : []
    if (parts.length !== 1 || typeof parts[0] !== 'string')
      bad(`${stage.type} in "${key}" needs a "pattern" of {"String": …} or {"Regex": …}`)
  }
}

function tokenName(config: Json | undefined, key: string): string | undefined {
  const value = config?.[key]
  if (value == null) return undefined
  const name = isObject(value) ? value.content : value
  return typeof name === 'string'
    ? name
    : bad(`tokenizer_config.json: ${key} must be a string or {"content": string}`)
}

/** Builds the library's tokenizer and runs it once, so that what it can't do shows now and not in a request. */
function build(file: Json, config: Json, eos: string | undefined): Library {
  const whole = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null, ...file }
  const flags = ['remove_space', 'do_lowercase_and_remove_accent'].filter(
    (key) => typeof config[key] === 'boolean',
  )
  const settings = { eos_token: eos, ...Object.fromEntries(flags.map((key) => [key, config[key]])) }
  try {
    const library = new Library(whole, settings)
    const missing = library.encode('').tokens.find((token) => library.token_to_id(token) === undefined)
    if (missing !== undefined) bad(`the post-processor adds '${missing}', which is not in the vocabulary`)
    const ids = library.encode('a 1.').ids.filter((id) => Number.isInteger(id))
    if (ids.length > 0) library.decode(ids)
    return library
  } catch (error) {
    if (error instanceof ExactmapError) throw error
    return bad(reason(error), error)
  }
}

/**
 * Whether cutting a text before a space that follows a letter leaves the token ids as they are. True for the GPT-2
 * byte-level pattern, in which no match spans such a place, if no added token does either.
 */
function isChunkable(file: Json, added: readonly Added[]): boolean {
  const { normalizer, pre_tokenizer: pre } = file
  return (
    (normalizer == null || (isObject(normalizer) && normalizer.type === 'NFC')) &&
    isObject(pre) &&
    pre.type === 'ByteLevel' &&
    (pre.use_regex ?? true) === true &&
    !added.some((token) => token.rstrip || /\p{L} /u.test(token.content))
  )
}

/** Cuts `text` into pieces of about `CHUNK` characters, each cut before a space that follows a letter. */
function* chunks(text: string): Generator<string> {
  const cut = /\p{L}(?= )/gu
  let start = 0
  while (text.length - start > CHUNK) {
    cut.lastIndex = start + CHUNK
    const match = cut.exec(text)
    if (match === null) break
    yield text.slice(start, match.index + match[0].length)
    start = match.index + match[0].length
  }
  yield text.slice(start)
}

/** Whether a decoder, or one of those it is a sequence of, reads the byte alphabet. */
const hasByteLevel = (decoder: unknown): boolean =>
  isObject(decoder) &&
  (decoder.type === 'ByteLevel' || (Array.isArray(decoder.decoders) && decoder.decoders.some(hasByteLevel)))

interface Facts extends Pick<Tokenizer, 'vocabSize' | 'bos' | 'eos' | 'specialIds'> {
  readonly chunkable: boolean
  /** Whether tokens are written in the byte alphabet. */
  readonly byteLevel: boolean
}

function makeTokenizer(library: Library, { chunkable, byteLevel, ...facts }: Facts): Tokenizer {
  const addsNothing = library.encode('').ids.length === 0
  const encodePiece = (text: string, special: boolean): Uint32Array => {
    let ids: (number | null | undefined)[]
    try {
      ids = library.encode(text, { add_special_tokens: special }).ids
    } catch (error) {
      throw new ExactmapError(
        'invalid_argument',
        `the tokenizer can't encode this text of ${text.length} characters (${reason(error)}); try shorter pieces`,
        {},
        { cause: error },
      )
    }
    check(
      ids.every((id) => Number.isInteger(id)),
      'invalid_argument',
      'the text holds something outside the vocabulary, and this tokenizer has no unknown token',
    )
    return Uint32Array.from(ids as number[])
  }
  const decode: Tokenizer['decode'] = (ids, { special = false } = {}) => {
    const known: number[] = []
    for (const id of Array.from(ids)) {
      check(
        Number.isInteger(id) && id >= 0 && id < facts.vocabSize,
        'invalid_argument',
        () => `token id ${id} is not an integer from 0 to ${facts.vocabSize - 1}`,
      )
      if (library.id_to_token(id) !== undefined) known.push(id)
    }
    if (known.length === 0) return ''
    return library.decode(known, { skip_special_tokens: !special, clean_up_tokenization_spaces: false })
  }
  // Decoders may strip the first token of a text; after this one a token shows what it adds.
  let before: number | undefined
  return {
    ...facts,
    encode(text, { special = true } = {}) {
      const wellFormed = text.replace(/\p{Surrogate}/gu, '\ufffd')
      const cut = chunkable && (!special || addsNothing)
      if (!cut) return encodePiece(wellFormed, special)
      const pieces = Array.from(chunks(wellFormed), (piece) => encodePiece(piece, special))
      const ids = new Uint32Array(pieces.reduce((sum, piece) => sum + piece.length, 0))
      let at = 0
      for (const piece of pieces) {
        ids.set(piece, at)
        at += piece.length
      }
      return ids
    },
    decode,
    idOf: (token) => library.token_to_id(token),
    bytesOf(id) {
      const text = decode([id])
      const token = library.id_to_token(id)
      if (token === undefined || facts.specialIds.has(id)) return new Uint8Array(0)
      const byte = /^<0x([0-9A-F]{2})>$/.exec(token)?.[1]
      if (byte !== undefined) return Uint8Array.of(Number.parseInt(byte, 16))
      const bytes = byteLevel ? bytesOfToken(token) : undefined
      if (bytes) return bytes
      for (let word = 0; before === undefined && word < facts.vocabSize; word++)
        if (/^\w+$/.test(decode([word]))) before = word
      const after = before === undefined ? text : decode([before, id]).slice(decode([before]).length)
      return new TextEncoder().encode(after)
    },
  }
}

/** Tokens that may wait for the end of one character: four bytes of UTF-8, with room for skipped tokens. */
const MAX_HELD = 16

/**
 * Text piece by piece while tokens arrive, never half a character: a trailing U+FFFD may be the start of a character
 * whose bytes are still to come, so it is held back. The pieces with `flush()` join to what `decode` of all ids
 * gives. (Only where more than `MAX_HELD` tokens in a row complete no character, which no valid text does, is what
 * is held given out as it is.)
 *
 * `context` are the ids before the stream, such as the prompt's last ones: models with a leading-space rule decode
 * the first piece rightly only after them. They are not given out.
 */
export class StreamDecoder {
  /** Ids from the last complete place on, with the ids before it that give them their context. */
  private window: number[]
  private contextLength: number
  /** Characters of the decoded window already given out. */
  private given: number

  constructor(
    private readonly tokenizer: Tokenizer,
    context: ArrayLike<number> = [],
    private readonly options: { special?: boolean } = {},
  ) {
    this.window = Array.from(context).slice(-MAX_HELD)
    this.contextLength = this.window.length
    this.given = this.text().length
  }

  private text(): string {
    return this.tokenizer.decode(this.window, this.options)
  }

  /** Takes one id; returns the text that is now certain, often none or one word. */
  push(id: number): string {
    if (!this.options.special && this.tokenizer.specialIds.has(id)) return ''
    this.window.push(id)
    const text = this.text()
    const incomplete = text.endsWith('\ufffd') && this.window.length - this.contextLength <= MAX_HELD
    const piece = text.slice(this.given, incomplete ? -1 : undefined)
    this.given += piece.length
    if (!incomplete && piece !== '') {
      this.window.splice(0, this.contextLength)
      this.contextLength = this.window.length
      this.given = text === piece ? piece.length : this.text().length
    }
    return piece
  }

  /** The end of the stream: returns what was held back. */
  flush(): string {
    const rest = this.text().slice(this.given)
    this.given += rest.length
    return rest
  }
}
