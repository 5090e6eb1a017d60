import type { Selection, Variant } from '../../backends/cuda/kernels/variant.ts'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { type CudaTraitsFile, cudaTarget } from '../../backends/cuda/target.ts'
import { type CudaTuningEntry, type CudaTuningFile, keyOf } from '../../backends/cuda/tuning.ts'
import { type SpeedCase, speedCall } from '../../src/verify/cuda_cases.ts'

/** What a rule asks tuning data about one case, with the variants that it offers. */
export interface Question extends Selection {
  readonly variants: readonly Pick<Variant, 'name' | 'cycles'>[]
}

/** What the rules of a target ask about a case: everything, in order. */
export function asking(traits: CudaTraitsFile): (one: SpeedCase) => Question[] {
  let asked: Question[] = []
  const tuning = (selection: Selection, variants: readonly Variant[]): undefined => {
    asked.push({ ...selection, variants: variants.map(({ name, cycles }) => ({ name, cycles })) })
  }
  const target = cudaTarget({ ...traits, tuning }, readCudaSources())
  return (one) => {
    asked = []
    target.choose(speedCall(one))
    return asked
  }
}

/** One entry a key: cases that differ in what a selection does not see share theirs, the first one's. */
const once = (entries: readonly CudaTuningEntry[]): CudaTuningEntry[] => [
  ...new Map(entries.toReversed().map((entry) => [keyOf(entry), entry])).values(),
]

/** Entries for cases that nobody has measured: the variants that their rules predict to be the fastest. */
export function predictedEntries(traits: CudaTraitsFile, cases: readonly SpeedCase[]): CudaTuningEntry[] {
  const questionsOf = asking(traits)
  return once(
    cases.flatMap((one) =>
      questionsOf(one).map(({ op, formats, shape, variants }) => ({
        op,
        formats,
        shape,
        variant: variants.reduce((a, b) => (b.cycles < a.cycles ? b : a)).name,
      })),
    ),
  )
}

/** Milliseconds of every variant of a case. */
export interface MeasuredCase {
  readonly questions: readonly Question[]
  readonly times: Readonly<Record<string, number>>
}

/** Entries for measured cases: the fastest variants, the portable kernel among them. */
export const measuredEntries = (cases: readonly MeasuredCase[]): CudaTuningEntry[] =>
  once(
    cases.flatMap(({ questions, times }) => {
      const best = Object.entries(times).reduce((a, b) => (b[1] < a[1] ? b : a))[0]
      return questions.map(({ op, formats, shape }) => ({ op, formats, shape, variant: best, times }))
    }),
  )

/** Entries with those that were measured in the place of predictions. */
export const completedEntries = (
  entries: readonly CudaTuningEntry[],
  predicted: readonly CudaTuningEntry[],
): CudaTuningEntry[] => once([...entries.filter(({ times }) => times), ...predicted])

/**
 * A tuning file with what a device measured: its times replace those of the same shapes, and shapes that nobody has timed
 * keep what is predicted. Another GPU of the same architecture stands in where the file's own has not been measured, since
 * a prediction is further off than a chip with other memory; it never replaces the file's own.
 *
 * @param name of the file, which is that of its GPU
 * @returns undefined where the file stays as it is
 */
export function measuredFile(
  name: string,
  file: CudaTuningFile,
  measured: NonNullable<CudaTuningFile['measured']>,
  entries: readonly CudaTuningEntry[],
  predicted: readonly CudaTuningEntry[],
): CudaTuningFile | undefined {
  const isOwn = (device: string): boolean => device.toLowerCase().includes(name)
  const before = file.measured?.device
  if (entries.length === 0 || (before && before !== measured.device && isOwn(before))) return undefined
  const kept = before === measured.device ? file.entries : []
  return { ...file, measured, entries: completedEntries([...entries, ...kept], predicted) }
}
