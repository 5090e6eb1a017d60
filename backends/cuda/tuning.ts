import { z } from 'zod'
import { ExactmapError } from '../../src/errors.ts'
import { nearest } from '../tuned_shape.ts'
import type { Selection, VariantTuning } from './kernels/variant.ts'
import gb300 from './tuning/gb300.json'
import h200 from './tuning/h200.json'

const count = z.number().int().positive()

const entrySchema = z.strictObject({
  op: z.string(),
  formats: z.string(),
  shape: z.record(z.string(), count),
  /** The fastest; `portable` is the kernel that every architecture has. */
  variant: z.string(),
  /** Milliseconds of every variant, where they were measured. */
  times: z.record(z.string(), z.number().positive()).optional(),
})

const fileSchema = z.strictObject({
  format: z.literal('exactmap-cuda-tuning'),
  version: z.literal(1),
  arch: z.string(),
  multiprocessors: count,
  /** Where the times come from; null: there are none. Entries without times have the variants that rules predict. */
  measured: z
    .strictObject({
      device: z.string(),
      driver: z.string(),
      date: z.string(),
      commit: z.string(),
      command: z.string(),
    })
    .nullable(),
  entries: z.array(entrySchema),
})

export type CudaTuningFile = z.infer<typeof fileSchema>
export type CudaTuningEntry = z.infer<typeof entrySchema>

/** @throws ExactmapError `invalid_format` for what is no tuning file of this version */
export function parseCudaTuning(data: unknown, file: string): CudaTuningFile {
  const parsed = fileSchema.safeParse(data)
  if (parsed.success) return parsed.data
  const lines = parsed.error.issues.slice(0, 5).map((i) => `${i.path.join('.') || 'file'}: ${i.message}`)
  throw new ExactmapError(
    'invalid_format',
    `expected a tuning file of version 1, but ${lines.join('; ')}; 'npm run gpu -- predict' writes one`,
    { file },
  )
}

/** Files by name, one for each kind of GPU that the project is made for. */
export const cudaTuningFiles: Readonly<Record<string, CudaTuningFile>> = {
  h200: parseCudaTuning(h200, 'h200.json'),
  gb300: parseCudaTuning(gb300, 'gb300.json'),
}

const groupOf = ({ op, formats }: Pick<Selection, 'op' | 'formats'>): string => `${op} ${formats}`

/** Names an entry: two with one key cannot both be in a file. */
export const keyOf = (s: Selection): string =>
  `${groupOf(s)} ${Object.entries(s.shape)
    .map(([name, size]) => `${name}=${size}`)
    .join(' ')}`

/** A call takes the variant of the entry nearest in shape with the same op and formats; too far away, none. */
export function tuningOf(entries: readonly CudaTuningEntry[]): VariantTuning {
  const groups = new Map<string, CudaTuningEntry[]>()
  for (const entry of entries) groups.set(groupOf(entry), [...(groups.get(groupOf(entry)) ?? []), entry])
  return (selection) => nearest(groups.get(groupOf(selection)) ?? [], selection.shape)?.variant
}

/** Encodes a tuning file: an entry a line, in a fixed order, so that it can be compared. */
export function encodeCudaTuning({ entries, ...head }: CudaTuningFile): string {
  const lines = entries
    .toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1))
    .map((entry) => `    ${JSON.stringify(entry)}`)
  const about = Object.entries(head).map(
    ([key, value]) => `  ${JSON.stringify(key)}: ${JSON.stringify(value)},`,
  )
  return `{\n${about.join('\n')}\n  "entries": [\n${lines.join(',\n')}\n  ]\n}\n`
}
