import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja'
import { check, ExactmapError } from '../errors.ts'

/** One turn of a conversation. Templates may read further keys, such as `tool_calls`. */
export interface ChatMessage {
  readonly role: string
  readonly content: unknown
  readonly [key: string]: unknown
}

export interface ChatOptions {
  /** End with the opening of an assistant turn, for generating; default false. */
  readonly addGenerationPrompt?: boolean
  /** Text of the begin-of-text token (the template's `bos_token`); default empty. */
  readonly bos?: string
  /** Text of the end-of-text token (the template's `eos_token`); default empty. */
  readonly eos?: string
  /** Further variables of the template: `tools`, `enable_thinking`, … */
  readonly variables?: Readonly<Record<string, unknown>>
  /** The time `strftime_now` formats, in local time; default now. */
  readonly now?: Date
}

/** What a template may use up. Real ones stay below a hundredth of each. */
const LIMITS = {
  templateChars: 1 << 20,
  steps: 2_000_000,
  characters: 1 << 24,
  items: 1 << 20,
  milliseconds: 2000,
}

type Value = ReturnType<Interpreter['evaluate']>

/** A template from a file is foreign code: every node it evaluates is counted, every value it makes is measured. */
class BoundedInterpreter extends Interpreter {
  private steps = 0
  private readonly started = performance.now()

  override evaluate(...args: Parameters<Interpreter['evaluate']>): Value {
    this.steps++
    check(
      this.steps <= LIMITS.steps,
      'invalid_argument',
      `chat template: more than ${LIMITS.steps} evaluation steps`,
    )
    // The clock is for single steps that are slow (filters over long values); reading it at each one costs too much.
    if (this.steps % 256 === 0)
      check(
        performance.now() - this.started < LIMITS.milliseconds,
        'invalid_argument',
        `chat template: longer than ${LIMITS.milliseconds} ms`,
      )
    const result = super.evaluate(...args)
    const value: unknown = result?.value
    const bound = typeof value === 'string' ? LIMITS.characters : Array.isArray(value) ? LIMITS.items : 0
    if (bound > 0)
      check(
        (value as string | unknown[]).length <= bound,
        'invalid_argument',
        `chat template: a value longer than ${bound}`,
      )
    return result
  }
}

/** Python's `range`, with a bound (the library's own fills an array of any size). */
function range(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second]
  const count = Math.max(0, Math.ceil((stop - start) / step))
  check(count <= LIMITS.items, 'invalid_argument', `chat template: range() of ${count} items`)
  return Array.from({ length: count }, (_, i) => start + i * step)
}

/** The parts of C's `strftime` that chat templates use, in English whatever the locale. */
function strftime(now: Date, format: string): string {
  const two = (n: number): string => String(n).padStart(2, '0')
  const name = (options: Intl.DateTimeFormatOptions): string => now.toLocaleDateString('en-US', options)
  const parts: Record<string, string> = {
    '%Y': String(now.getFullYear()),
    '%m': two(now.getMonth() + 1),
    '%d': two(now.getDate()),
    '%B': name({ month: 'long' }),
    '%b': name({ month: 'short' }),
    '%A': name({ weekday: 'long' }),
    '%a': name({ weekday: 'short' }),
    '%H': two(now.getHours()),
    '%M': two(now.getMinutes()),
    '%S': two(now.getSeconds()),
    '%%': '%',
  }
  return format.replace(/%./g, (code) => parts[code] ?? code)
}

/**
 * Renders a conversation with a model's chat template (Jinja, as in `tokenizer_config.json`).
 *
 * The text holds the model's special tokens by name: encode it with `{special: false}`.
 * Time and memory are bounded for every template: steps, seconds, and the size of each value.
 *
 * @throws ExactmapError `invalid_format` if the template does not parse; `invalid_argument` if it fails on these
 *   messages, refuses them (`raise_exception`) or passes a bound
 */
export function renderChat(
  template: string,
  messages: readonly ChatMessage[],
  options: ChatOptions = {},
): string {
  check(
    template.length <= LIMITS.templateChars,
    'invalid_format',
    `chat template: ${template.length} characters; at most ${LIMITS.templateChars} are read`,
  )
  let parsed: ReturnType<typeof parse>
  try {
    parsed = parse(tokenize(template, { lstrip_blocks: true, trim_blocks: true }))
  } catch (error) {
    throw new ExactmapError('invalid_format', `chat template: ${messageOf(error)}`, {}, { cause: error })
  }
  const { addGenerationPrompt = false, bos = '', eos = '', variables = {}, now = new Date() } = options
  const values: Record<string, unknown> = {
    true: true,
    True: true,
    false: false,
    False: false,
    none: null,
    None: null,
    range,
    strftime_now: (format: string) => strftime(now, String(format)),
    raise_exception: (message: unknown) => {
      throw new ExactmapError('invalid_argument', `the chat template refuses these messages: ${message}`)
    },
    ...variables,
    messages,
    add_generation_prompt: addGenerationPrompt,
    bos_token: bos,
    eos_token: eos,
  }
  try {
    const environment = new Environment()
    for (const [name, value] of Object.entries(values)) environment.set(name, value)
    return String(new BoundedInterpreter(environment).run(parsed).value)
  } catch (error) {
    if (error instanceof ExactmapError) throw error
    throw new ExactmapError('invalid_argument', `chat template: ${messageOf(error)}`, {}, { cause: error })
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/**
 * The chat template a parsed `tokenizer_config.json` holds: its `chat_template` text, or of a list of named
 * ones the one called `name`. Undefined if there is none.
 *
 * @throws ExactmapError `invalid_format` if the key holds something else
 */
export function chatTemplateOf(config: unknown, name = 'default'): string | undefined {
  const found = (config as { chat_template?: unknown } | null | undefined)?.chat_template
  if (found == null || typeof found === 'string') return found ?? undefined
  const entries = Array.isArray(found) ? (found as { name?: unknown; template?: unknown }[]) : []
  const entry = entries.find((one) => one?.name === name)
  check(
    Array.isArray(found) && (entry === undefined || typeof entry.template === 'string'),
    'invalid_format',
    'tokenizer_config.json: "chat_template" must be a string or a list of {"name", "template"}',
  )
  return entry?.template as string | undefined
}
