import { parse as parseYaml } from 'yaml'
import { z } from 'zod'
import { ExactmapError } from '../../errors.ts'
import { parseQuantity, type QuantityKind } from './quantity.ts'

/** A text of its own field: names, sources. */
export const line = z.string().trim().min(1).max(500)

/** A count of things, at least 1. */
export const count = (most: number) => z.number().int().min(1).max(most)

/** A name that other fields refer to. */
export const identifier = z.string().regex(/^[a-z][a-z0-9_-]{0,63}$/, 'expected a name such as nvlink')

/** A number in SI units, written `{ value: 141 GB, source: … }`: a public source or `assumed: <why>`. */
export const figure = (kind: QuantityKind) =>
  z.strictObject(
    {
      value: z.unknown().transform((text, context) => {
        try {
          return parseQuantity(text, kind)
        } catch (error) {
          context.addIssue({ code: 'custom', message: (error as Error).message })
          return z.NEVER
        }
      }),
      source: line,
    },
    {
      error: ({ code }) =>
        code === 'invalid_type' ? `expected { value: <${kind}>, source: <text> }` : undefined,
    },
  )

/**
 * Reads a YAML file by its schema.
 *
 * @param conflicts what fits no single field, as [field, what was expected and what came]; asked only once every
 *   field is valid by itself
 * @throws ExactmapError `invalid_config`: names the file and, for up to five fields, what was expected and what came
 */
export function readYaml<T extends z.ZodType>(
  source: Uint8Array,
  file: string,
  schema: T,
  conflicts: (content: z.output<T>) => Iterable<readonly [string, string]>,
): z.output<T> {
  let raw: unknown
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(source)
    raw = parseYaml(text, { maxAliasCount: 16 })
  } catch (cause) {
    throw new ExactmapError(
      'invalid_config',
      `not valid YAML: ${(cause as Error).message}`,
      { file },
      { cause },
    )
  }
  const parsed = schema.safeParse(raw)
  const lines = parsed.success
    ? [...conflicts(parsed.data)].map(([field, message]) => `${field}: ${message}`)
    : parsed.error.issues.flatMap((issue) => issueLines(issue, raw, schema))
  if (!parsed.success || lines.length > 0)
    throw new ExactmapError('invalid_config', lines.slice(0, 5).join('; '), { file })
  return parsed.data
}

function issueLines(issue: z.core.$ZodIssue, raw: unknown, schema: z.ZodType): string[] {
  const field = (path: readonly PropertyKey[]): string => path.map(String).join('.') || '(whole file)'
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map(
      (key) =>
        `${field([...issue.path, key])}: unknown field, expected one of ${fieldsAt(schema, issue.path).join(', ')}`,
    )
  if (issue.code === 'invalid_key')
    return [`${field(issue.path)}: ${issue.issues[0]!.message}, got the name ${shown(issue.path.at(-1))}`]
  // Schemas' own messages and zod's type errors already say what came.
  const says = /\bgot\b|\breceived\b/.test(issue.message)
  return [`${field(issue.path)}: ${issue.message}${says ? '' : `, got ${shown(valueAt(raw, issue.path))}`}`]
}

const shown = (value: unknown): string => {
  const text = value === undefined ? 'nothing' : JSON.stringify(value)
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}

const valueAt = (raw: unknown, path: readonly PropertyKey[]): unknown =>
  path.reduce((at, key) => (at as Record<PropertyKey, unknown> | undefined)?.[key], raw)

/** Names of the fields an object has at a path of a schema. */
function fieldsAt(schema: z.ZodType, path: readonly PropertyKey[]): string[] {
  let at: unknown = schema
  const unwrapped = (): unknown => {
    while (at instanceof z.ZodOptional || at instanceof z.ZodDefault || at instanceof z.ZodPrefault)
      at = at.unwrap()
    return at
  }
  for (const key of path) {
    const outer = unwrapped()
    if (outer instanceof z.ZodObject) at = outer.shape[String(key)]
    else if (outer instanceof z.ZodArray) at = outer.element
    else if (outer instanceof z.ZodRecord) at = outer.valueType
  }
  const found = unwrapped()
  if (found instanceof z.ZodObject) return Object.keys(found.shape)
  return found instanceof z.ZodRecord && found.keyType instanceof z.ZodEnum
    ? found.keyType.options.map(String)
    : []
}
