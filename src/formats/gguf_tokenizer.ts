import { check, ExactmapError } from '../errors.ts'
import type { GgufValue } from './gguf.ts'
import { isJsonObject, type JsonObject } from './json.ts'
import { loadTokenizer } from './tokenizer.ts'

/** llama.cpp's token types. */
const NORMAL = 1
const CONTROL = 3
const USER_DEFINED = 4
const UNUSED = 5

/** Everything of a split pattern after its first part for letters and its part for digits. */
const splitPattern = (digits: string): string =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`

/** llama.cpp knows pre-tokenizers by name only: the split patterns of Llama 3 and Qwen 2 and their names there. */
const SPLIT_NAMES: Readonly<Record<string, string>> = {
  [splitPattern('\\p{N}{1,3}')]: 'llama-bpe',
  [splitPattern('\\p{N}')]: 'qwen2',
}

/**
 * The `tokenizer.ggml.*` metadata of a byte-level BPE `tokenizer.json`, as llama.cpp expects it.
 *
 * llama.cpp takes the end of text as id 11 where a BPE tokenizer names none; the export can't turn that off.
 *
 * @param tokenizer bytes of tokenizer.json
 * @param config parsed tokenizer_config.json, if there is one
 * @param vocab rows of the model's embedding; ids above the tokenizer's become unused tokens
 * @throws ExactmapError `unsupported` for other models, normalizers or pre-tokenizers, `invalid_format`
 */
export function ggufTokenizer(
  tokenizer: Uint8Array,
  config: unknown,
  vocab: number,
): Record<string, GgufValue> {
  // Checks size and structure, so that what follows can rely on both.
  const checked = loadTokenizer(tokenizer, config)
  const file = JSON.parse(new TextDecoder().decode(tokenizer)) as JsonObject
  const model = file.model as JsonObject
  const refuse = (what: string): never => {
    throw new ExactmapError(
      'unsupported',
      `GGUF export: ${what}; only byte-level BPE tokenizers are exported`,
    )
  }
  if (!isJsonObject(model.vocab) || !Array.isArray(model.merges)) return refuse('the tokenizer is not BPE')
  const { normalizer } = file
  if (normalizer != null && !(isJsonObject(normalizer) && normalizer.type === 'NFC'))
    refuse('llama.cpp has no normalizers but this tokenizer has one')
  const pre =
    preTokenizer(file.pre_tokenizer) ??
    refuse('llama.cpp has no name for the pre-tokenizer of this tokenizer')
  check(
    checked.vocabSize <= vocab,
    'invalid_format',
    () => `the tokenizer has ids up to ${checked.vocabSize - 1}, the model ${vocab} rows of embedding`,
  )

  const tokens = Array.from({ length: vocab }, (_, id) => `[PAD${id}]`)
  const types = new Array<number>(vocab).fill(UNUSED)
  for (const [token, id] of Object.entries(model.vocab) as [string, number][]) {
    tokens[id] = token
    types[id] = NORMAL
  }
  for (const { id, content, special } of (file.added_tokens ?? []) as {
    id: number
    content: string
    special?: boolean
  }[]) {
    tokens[id] = content
    types[id] = special ? CONTROL : USER_DEFINED
  }
  const merges = (model.merges as (string | [string, string])[]).map((merge) => {
    const text = typeof merge === 'string' ? merge : merge.join(' ')
    return text.split(' ').length === 2 ? text : refuse(`merge '${text}' has a token with a space`)
  })
  const first = checked.encode('')[0]
  return {
    'tokenizer.ggml.model': { type: 'string', value: 'gpt2' },
    'tokenizer.ggml.pre': { type: 'string', value: pre },
    'tokenizer.ggml.tokens': { type: 'array', of: 'string', values: tokens },
    'tokenizer.ggml.token_type': { type: 'array', of: 'i32', values: types },
    'tokenizer.ggml.merges': { type: 'array', of: 'string', values: merges },
    ...(checked.bos === undefined
      ? {}
      : { 'tokenizer.ggml.bos_token_id': { type: 'u32', value: checked.bos } as const }),
    ...(checked.eos === undefined
      ? {}
      : { 'tokenizer.ggml.eos_token_id': { type: 'u32', value: checked.eos } as const }),
    'tokenizer.ggml.add_bos_token': { type: 'bool', value: first !== undefined && first === checked.bos },
  }
}

function preTokenizer(pre: unknown): string | undefined {
  if (!isJsonObject(pre)) return undefined
  if (pre.type === 'ByteLevel')
    return pre.add_prefix_space === true || pre.use_regex === false ? undefined : 'gpt-2'
  if (pre.type !== 'Sequence' || !Array.isArray(pre.pretokenizers)) return undefined
  const [split, bytes, ...rest] = pre.pretokenizers
  if (rest.length > 0 || !isJsonObject(split) || !isJsonObject(bytes) || !isJsonObject(split.pattern))
    return undefined
  const plain = split.type === 'Split' && split.behavior === 'Isolated' && split.invert !== true
  const bytesOnly = bytes.type === 'ByteLevel' && bytes.add_prefix_space !== true && bytes.use_regex === false
  return plain && bytesOnly ? SPLIT_NAMES[String(split.pattern.Regex)] : undefined
}
