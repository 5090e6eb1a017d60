import { ExactmapError } from '../errors.ts'

export type JsonValue = null | boolean | number | string | JsonValue[] | JsonObject
export type JsonObject = { [key: string]: JsonValue }

/** No header or configuration nests deeper; keeps a hostile file from exhausting the call stack. */
const MAX_DEPTH = 64
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
const SPACE = /[ \t\n\r]*/y
/** The longest run without a quote, a backslash or a control character. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON forbids exactly these inside strings
const PLAIN = /[^"\\\u0000-\u001f]*/y
const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
}

export const isJsonObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/**
 * Parses JSON bytes (RFC 8259, UTF-8 without a byte order mark).
 *
 * Stricter than `JSON.parse`, because these files come from elsewhere: repeated keys (two readers would see
 * different values), `__proto__` keys, lone surrogates and nesting beyond 64 levels are refused. Errors carry
 * line and column, which `JSON.parse` gives only in some engines.
 *
 * @param file named in errors
 * @throws ExactmapError `invalid_format`
 */
export function parseJson(bytes: Uint8Array, file: string): JsonValue {
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (cause) {
    throw new ExactmapError(
      'invalid_format',
      'expected JSON in UTF-8, the bytes are not UTF-8',
      { file },
      { cause },
    )
  }
  return new Parser(text, file).document()
}

class Parser {
  private at = 0
  constructor(
    private readonly text: string,
    private readonly file: string,
  ) {}

  document(): JsonValue {
    const value = this.value(0)
    this.match(SPACE)
    if (this.at < this.text.length) this.fail('the end of the file')
    return value
  }

  private fail(expected: string, at = this.at): never {
    const line = this.text.slice(0, at).split('\n')
    const got = at < this.text.length ? JSON.stringify(this.text[at]) : 'the end of the file'
    const place = `line ${line.length}, column ${line.at(-1)!.length + 1}`
    throw new ExactmapError('invalid_format', `JSON, ${place}: expected ${expected}, got ${got}`, {
      file: this.file,
    })
  }

  /** Consumes what a sticky pattern matches here. */
  private match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.at
    const found = pattern.exec(this.text)?.[0]
    if (found !== undefined) this.at += found.length
    return found
  }

  private take(literal: string): boolean {
    if (!this.text.startsWith(literal, this.at)) return false
    this.at += literal.length
    return true
  }

  private value(depth: number): JsonValue {
    this.match(SPACE)
    if (depth > MAX_DEPTH) this.fail(`at most ${MAX_DEPTH} levels of nesting`)
    switch (this.text[this.at]) {
      case '{':
        return this.object(depth)
      case '[':
        return this.array(depth)
      case '"':
        return this.string()
    }
    if (this.take('null')) return null
    if (this.take('true')) return true
    if (this.take('false')) return false
    const number = this.match(NUMBER)
    return number === undefined ? this.fail('a value') : Number(number)
  }

  private array(depth: number): JsonValue[] {
    const out: JsonValue[] = []
    this.at++
    this.match(SPACE)
    if (this.take(']')) return out
    for (;;) {
      out.push(this.value(depth + 1))
      this.match(SPACE)
      if (this.take(']')) return out
      if (!this.take(',')) this.fail("',' or ']'")
    }
  }

  private object(depth: number): JsonObject {
    const out: JsonObject = {}
    this.at++
    this.match(SPACE)
    if (this.take('}')) return out
    for (;;) {
      this.match(SPACE)
      const start = this.at
      if (this.text[start] !== '"') this.fail('a key in double quotes')
      const key = this.string()
      if (key === '__proto__') this.fail('a key other than __proto__', start)
      if (Object.hasOwn(out, key)) this.fail(`every key once, ${JSON.stringify(key)} is repeated`, start)
      this.match(SPACE)
      if (!this.take(':')) this.fail("':'")
      out[key] = this.value(depth + 1)
      this.match(SPACE)
      if (this.take('}')) return out
      if (!this.take(',')) this.fail("',' or '}'")
    }
  }

  private string(): string {
    const start = this.at++
    let out = ''
    for (;;) {
      out += this.match(PLAIN)
      if (this.take('"')) break
      if (!this.take('\\')) this.fail("a character or '\"'")
      out += this.escape()
    }
    if (/\p{Surrogate}/u.test(out)) this.fail('a string without lone surrogates', start)
    return out
  }

  private escape(): string {
    if (this.take('u')) {
      const digits = this.match(/[0-9a-fA-F]{4}/y)
      return digits === undefined
        ? this.fail('four hexadecimal digits')
        : String.fromCharCode(Number.parseInt(digits, 16))
    }
    const char = this.text[this.at] ?? ''
    const plain = ESCAPES[char]
    if (plain === undefined || char === '') return this.fail('an escape of JSON')
    this.at++
    return plain
  }
}
