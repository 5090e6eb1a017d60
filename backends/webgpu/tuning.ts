import { z } from 'zod'
import { ExactmapError } from '../../src/errors.ts'
import { parseJson } from '../../src/formats/json.ts'
import { nearest } from '../tuned_shape.ts'
import type { Decision, Tuning } from './kernels/parameter.ts'
import { rules } from './kernels/registry.ts'

const count = z.number().int().positive()
const ms = z.number().nonnegative()

const signatureSchema = z.strictObject({
  /** gpu, lavapipe, swiftshader or native. */
  driver: z.string(),
  device: z.string(),
  description: z.string(),
  /** Optional features that kernels use, sorted. */
  features: z.array(z.string()),
  subgroupSize: count,
})

const entrySchema = z.strictObject({
  op: z.string(),
  kernel: z.string(),
  shape: z.record(z.string(), count),
  choice: z.record(z.string(), z.number()),
  /** Time of the heuristics' choice over that of this one, both in one run, alternating. */
  ratio: z.number().positive(),
  /** Of one run of the op, and of making its kernels where the driver keeps none. */
  runMs: ms,
  compileMs: ms,
  /** Of the heuristics' choice. */
  heuristicCompileMs: ms,
})

const fileSchema = z.strictObject({
  format: z.literal('exactmap-tuning'),
  version: z.literal(1),
  signature: signatureSchema,
  date: z.string(),
  commit: z.string(),
  command: z.string(),
  /** Of the machine in the last minute when the file was written. */
  loadAverage: ms,
  entries: z.array(entrySchema),
})

/** What a tuning was measured on. */
export type TuningSignature = z.infer<typeof signatureSchema>

/** A choice that was measured for one decision, with what it gained. */
export type TuningEntry = z.infer<typeof entrySchema>

/** A choice for one decision. */
export type TunedChoice = Pick<TuningEntry, 'op' | 'kernel' | 'shape' | 'choice'>

/** A tuning file (docs/tuning.md). */
export type TuningFile = z.infer<typeof fileSchema>

/**
 * Reads a tuning file.
 *
 * @param file named in errors
 * @throws ExactmapError `invalid_format` for what is no tuning file of this version, `not_found` for an op,
 *   parameter or value that the rules do not have
 */
export function parseTuning(bytes: Uint8Array, file: string): TuningFile {
  const parsed = fileSchema.safeParse(parseJson(bytes, file))
  if (!parsed.success) {
    const lines = parsed.error.issues.slice(0, 5).map((i) => `${i.path.join('.') || 'file'}: ${i.message}`)
    throw new ExactmapError(
      'invalid_format',
      `expected a tuning file of version 1, but ${lines.join('; ')}; 'exactmap tune' writes one`,
      { file },
    )
  }
  for (const entry of parsed.data.entries) checkEntry(entry, file)
  return parsed.data
}

function checkEntry({ op, choice }: TuningEntry, file: string): void {
  const parameters = rules.rule(op).parameters ?? {}
  const known = Object.keys(parameters)
  for (const [name, value] of Object.entries(choice)) {
    const values = Object.hasOwn(parameters, name) ? parameters[name]!.values : undefined
    const place = { file }
    if (!values)
      throw new ExactmapError(
        'not_found',
        `op '${op}' has no parameter '${name}'${known.length > 0 ? `; it has ${known.join(', ')}` : ''}; 'exactmap tune --fresh' writes the file anew`,
        place,
      )
    if (!values.includes(value))
      throw new ExactmapError(
        'not_found',
        `parameter '${name}' of op '${op}' has no value ${value}; it has ${values.join(', ')}; 'exactmap tune --fresh' writes the file anew`,
        place,
      )
  }
}

/** Encodes a tuning file: an entry a line, in a fixed order, so that it can be compared. */
export function encodeTuning(tuning: TuningFile): string {
  const { entries, ...head } = tuning
  const lines = [...entries].sort(byKey).map((entry) => `    ${JSON.stringify(entry)}`)
  const about = Object.entries(head).map(
    ([key, value]) => `  ${JSON.stringify(key)}: ${JSON.stringify(value)},`,
  )
  return `{\n${about.join('\n')}\n  "entries": [\n${lines.join(',\n')}\n  ]\n}\n`
}

/** Names a decision: two entries with one key cannot both be in a file. */
export const keyOf = ({ op, kernel, shape }: Pick<Decision, 'op' | 'kernel' | 'shape'>): string =>
  `${op} ${kernel} ${Object.keys(shape)
    .sort()
    .map((size) => `${size}=${shape[size]}`)
    .join(' ')}`

const byKey = (a: TunedChoice, b: TunedChoice): number => (keyOf(a) < keyOf(b) ? -1 : 1)

/**
 * A tuning from entries. A decision takes the choice that was measured nearest to its shape for the same op and kernel,
 * the first by key of several; too far away it takes none. So one file serves all models.
 */
export function tuningOf(entries: readonly TunedChoice[]): Tuning {
  const groups = new Map<string, TunedChoice[]>()
  for (const entry of [...entries].sort(byKey)) {
    const group = `${entry.op} ${entry.kernel}`
    groups.set(group, [...(groups.get(group) ?? []), entry])
  }
  return (decision) =>
    nearest(groups.get(`${decision.op} ${decision.kernel}`) ?? [], decision.shape)?.choice ?? {}
}

/** Whether a tuning for one adapter is one for another of the same kind of driver: the same kernels, equally wide. */
export const tuningFits = (of: TuningSignature, on: TuningSignature): boolean =>
  of.driver === on.driver && of.subgroupSize === on.subgroupSize && of.features.join() === on.features.join()
