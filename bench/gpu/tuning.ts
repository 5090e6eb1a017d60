import type { Selection, Variant } from '../../backends/cuda/kernels/variant.ts'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { type CudaTraitsFile, cudaTarget } from '../../backends/cuda/target.ts'
import { type CudaTuningEntry, keyOf } from '../../backends/cuda/tuning.ts'
import { type SpeedCase, speedCall } from '../../src/verify/cuda_cases.ts'

/** What a rule asks tuning data about one case, with the variants that it offers. */
export interface Question extends Selection {
  readonly variants: readonly Pick<Variant, 'name' | 'cycles'>[]
}

/** Everything that the rules of a target ask about a case. */
export function questionsOf(traits: CudaTraitsFile, one: SpeedCase): Question[] {
  const asked: Question[] = []
  const tuning = (selection: Selection, variants: readonly Variant[]): undefined => {
    asked.push({ ...selection, variants: variants.map(({ name, cycles }) => ({ name, cycles })) })
  }
  cudaTarget({ ...traits, tuning }, readCudaSources()).choose(speedCall(one))
  return asked
}

/** One entry a key: cases that differ in what a selection does not see share theirs, the first one's. */
const once = (entries: readonly CudaTuningEntry[]): CudaTuningEntry[] => [
  ...new Map(entries.toReversed().map((entry) => [keyOf(entry), entry])).values(),
]

/** Entries for cases that nobody has measured: the variants that their rules predict to be the fastest. */
export const predictedEntries = (traits: CudaTraitsFile, cases: readonly SpeedCase[]): CudaTuningEntry[] =>
  once(
    cases.flatMap((one) =>
      questionsOf(traits, one).map(({ op, formats, shape, variants }) => ({
        op,
        formats,
        shape,
        variant: variants.reduce((a, b) => (b.cycles < a.cycles ? b : a)).name,
      })),
    ),
  )

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
