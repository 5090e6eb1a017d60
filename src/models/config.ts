import type { z } from 'zod'
import { ExactmapError } from '../errors.ts'

/** Reads config.json by a schema; `invalid_config` names the field, what was expected and what came. */
export function parseConfig<T>(schema: z.ZodType<T>, config: unknown): T {
  const parsed = schema.safeParse(config)
  if (parsed.success) return parsed.data
  const { path, message } = parsed.error.issues[0]!
  return parseConfig.fail(`config.json: ${path.join('.') || '(whole file)'}: ${message}`)
}

parseConfig.fail = (message: string): never => {
  throw new ExactmapError('invalid_config', message)
}
