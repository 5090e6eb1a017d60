import { check, ExactmapError } from '../../errors.ts'
import { type ChatMessage, renderChat } from '../../formats/chat_template.ts'
import type { Tokenizer } from '../../formats/tokenizer.ts'
import type { TokenPiece } from './tokens.ts'

/** `role: content` by lines, the assistant's turns closed by the end-of-text token. For models without their own. */
export const PLAIN_CHAT_TEMPLATE = `{%- for message in messages -%}
{{ message.role }}: {{ message.content }}{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}assistant:{%- endif -%}`

/**
 * The text of UTF-8 bytes, without a byte order mark.
 *
 * @param offset where the bytes begin in their file, for messages
 * @throws ExactmapError `invalid_format` naming the offset of the first byte that is not UTF-8
 */
export function decodeUtf8(bytes: Uint8Array, path: string, offset = 0): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    const at = offset + validUtf8Length(bytes)
    throw new ExactmapError(
      'invalid_format',
      `byte ${at} is not valid UTF-8; convert the file (iconv -t utf-8)`,
      { file: path },
      { cause: error },
    )
  }
}

/** Bytes before the first invalid sequence (Unicode 15, table 3-7). */
function validUtf8Length(bytes: Uint8Array): number {
  const inside = (b: number | undefined, low = 0x80, high = 0xbf): boolean =>
    b !== undefined && b >= low && b <= high
  let i = 0
  while (i < bytes.length) {
    const [a, b, c, d] = [bytes[i]!, bytes[i + 1], bytes[i + 2], bytes[i + 3]]
    if (a < 0x80) i += 1
    else if (a >= 0xc2 && a <= 0xdf && inside(b)) i += 2
    else if (
      a >= 0xe0 &&
      a <= 0xef &&
      inside(b, a === 0xe0 ? 0xa0 : 0x80, a === 0xed ? 0x9f : 0xbf) &&
      inside(c)
    )
      i += 3
    else if (
      a >= 0xf0 &&
      a <= 0xf4 &&
      inside(b, a === 0xf0 ? 0x90 : 0x80, a === 0xf4 ? 0x8f : 0xbf) &&
      inside(c) &&
      inside(d)
    )
      i += 4
    else return i
  }
  return i
}

/** The text between the model's begin and end tokens, where it has them (one of them, if they are the same). */
export function textDocument(text: string, tokenizer: Tokenizer): TokenPiece[] {
  const { bos, eos } = tokenizer
  const ids = tokenizer.encode(text, { special: false })
  if (ids.length === 0) return []
  return [
    { ids: bos === undefined || bos === eos ? [] : [bos], weight: 1 },
    { ids, weight: 1 },
    { ids: eos === undefined ? [] : [eos], weight: 1 },
  ]
}

/**
 * A conversation as pieces: weight 1 for what the assistant says, up to the template's end of its turn, 0 for all
 * else. The pieces are tokenized one by one, as they are when the model answers: the prompt first, then its own.
 *
 * Where a turn ends is found by rendering the conversation up to it, so the template must only ever append.
 *
 * @throws ExactmapError `invalid_format` if no turn is the assistant's or the template rewrites earlier turns;
 *   what `renderChat` throws
 */
export function chatDocument(
  messages: readonly ChatMessage[],
  template: string,
  tokenizer: Tokenizer,
): TokenPiece[] {
  const name = (id: number | undefined): string =>
    id === undefined ? '' : tokenizer.decode([id], { special: true })
  const tokens = { bos: name(tokenizer.bos), eos: name(tokenizer.eos) }
  const pieces: TokenPiece[] = []
  let done = ''
  const extend = (upTo: string, weight: 0 | 1): void => {
    check(
      upTo.startsWith(done),
      'invalid_format',
      'the chat template changes earlier turns when later ones follow, so what the assistant said can not be told apart; use another template',
    )
    pieces.push({ ids: tokenizer.encode(upTo.slice(done.length), { special: false }), weight })
    done = upTo
  }
  messages.forEach((message, i) => {
    if (message.role !== 'assistant') return
    extend(renderChat(template, messages.slice(0, i), { ...tokens, addGenerationPrompt: true }), 0)
    extend(renderChat(template, messages.slice(0, i + 1), tokens), 1)
  })
  check(
    pieces.length > 0,
    'invalid_format',
    'no message has the role "assistant", so there is nothing to learn',
  )
  extend(renderChat(template, messages, tokens), 0)
  return pieces
}

/**
 * The documents of JSON lines: each line an object with either `text` (a string) or `messages` (an array of
 * `{role, content}`). Empty lines are skipped.
 *
 * @throws ExactmapError `invalid_format` with file and line for anything else
 */
export function* jsonlDocuments(
  bytes: Uint8Array,
  path: string,
  template: string,
  tokenizer: Tokenizer,
): Generator<TokenPiece[]> {
  for (let start = 0, line = 1; start < bytes.length; line++) {
    const newline = bytes.indexOf(10, start)
    const end = newline < 0 ? bytes.length : newline
    const text = decodeUtf8(bytes.subarray(start, end), path, start)
    start = end + 1
    if (text.trim() === '') continue
    try {
      yield lineDocument(text, template, tokenizer)
    } catch (error) {
      const code = error instanceof ExactmapError && error.code === 'internal' ? 'internal' : 'invalid_format'
      throw new ExactmapError(code, (error as Error).message, { file: `${path}:${line}` }, { cause: error })
    }
  }
}

function lineDocument(line: string, template: string, tokenizer: Tokenizer): TokenPiece[] {
  const { text, messages } = (JSON.parse(line) ?? {}) as { text?: unknown; messages?: unknown }
  if (typeof text === 'string' && messages === undefined) return textDocument(text, tokenizer)
  check(
    Array.isArray(messages) && text === undefined,
    'invalid_format',
    'expected an object with either "text" (a string) or "messages" (an array)',
  )
  for (const message of messages as Partial<ChatMessage>[]) {
    check(
      typeof message?.role === 'string' && 'content' in message,
      'invalid_format',
      'each message needs a "role" (a string) and a "content"',
    )
    // A model's own template may know lists of parts or null beside tool calls; the plain one would print anything.
    check(
      template !== PLAIN_CHAT_TEMPLATE || typeof message.content === 'string',
      'invalid_format',
      'a "content" that is not a string needs a chat template that knows it',
    )
  }
  return chatDocument(messages as ChatMessage[], template, tokenizer)
}
