import { check, ExactmapError } from '../errors.ts'
import { gpt2 } from './gpt2.ts'
import { llama } from './llama.ts'
import type { ModelFamily } from './model.ts'

const builtIn: readonly ModelFamily[] = [gpt2 as ModelFamily, llama as unknown as ModelFamily]
const registered: ModelFamily[] = []

export const families = (): readonly ModelFamily[] => [...builtIn, ...registered]

/** Registers a model family from outside the package (see docs/models.md). */
export function registerModel(family: ModelFamily): void {
  const taken = families().flatMap((f) => f.accepts)
  for (const name of family.accepts)
    check(!taken.includes(name), 'conflict', `architecture '${name}' already has a family`)
  registered.push(family)
}

/** The family of a config.json, by its `architectures`. */
export function familyOf(config: unknown): ModelFamily {
  const { architectures } = (config ?? {}) as { architectures?: unknown }
  const named = Array.isArray(architectures)
    ? architectures.filter((a): a is string => typeof a === 'string')
    : []
  const family = families().find((f) => f.accepts.some((a) => named.includes(a)))
  if (family) return family
  const supported = families()
    .flatMap((f) => f.accepts)
    .join(', ')
  throw new ExactmapError(
    'unsupported',
    `config.json names architecture ${named.join(', ') || '(none)'}; supported: ${supported}`,
  )
}
