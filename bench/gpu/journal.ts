import type { VerifiedKernel } from '../../backends/cuda/verified.ts'
import { check } from '../../src/errors.ts'

/** A case with the kernels that it launches. */
export interface PreparedCase {
  readonly case: string
  readonly kernels: readonly string[]
}

/** dist/gpu/cases.json: what bench/gpu/run.py may ask, in the order in which it does. */
export interface PreparedCases {
  /** Names what was prepared; a journal of something else is refused. */
  readonly prepared: string
  /** Whose kernels these are; `emulated` is never recorded. */
  readonly arch: string
  readonly commit: string
  /** By kernel: the hash of the text that its image was built from, and its module. */
  readonly texts: Readonly<Record<string, string>>
  readonly modules: Readonly<Record<string, string>>
  readonly primitives: readonly PreparedCase[]
  readonly vectors: readonly PreparedCase[]
  readonly models: readonly string[]
  readonly speed: readonly PreparedCase[]
  readonly programs: readonly PreparedCase[]
}

/** What became of a case; of one that failed to run, only why. */
export interface CaseRecord {
  readonly case: string
  readonly pass: boolean
  readonly code?: string
  readonly error?: string
  readonly worst?: number | string
  readonly ms: number
  readonly bytes: number
  readonly flops: number
  readonly segments?: readonly { readonly name: string; readonly ms: number }[]
  readonly arenaBytes?: number
  readonly deviceBytes?: number
}

export interface Journal {
  readonly device: string
  /** Of the driver: `CUDA 13.0`. */
  readonly driver: string
  /** Folder of the kernels that the device takes. */
  readonly kernels: string
  readonly prepared: string
  /** Records of a part, without `part`. */
  of<T>(part: string): T[]
}

/**
 * Reads journal.jsonl as bench/gpu/run.py writes it. A last line that was cut off is left out.
 *
 * @throws ExactmapError `invalid_format` without a `run` record, or with those of several devices
 */
export function readJournal(text: string): Journal {
  const records = text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as { readonly part: string })
  const of = <T>(wanted: string): T[] =>
    records.flatMap(({ part, ...rest }) => (part === wanted ? [rest as T] : []))
  const runs = of<{
    prepared: string
    version: number
    devices: { name: string; kernels: string }[]
  }>('run')
  const names = new Set(runs.map((run) => run.devices[0]?.name))
  check(names.size === 1, 'invalid_format', () =>
    names.size === 0 ? 'the journal has no run in it' : `runs of one device, got ${[...names].join(', ')}`,
  )
  const { version, devices, prepared } = runs[0]!
  return {
    device: devices[0]!.name,
    kernels: devices[0]!.kernels,
    driver: `CUDA ${Math.floor(version / 1000)}.${(version % 1000) / 10}`,
    prepared,
    of,
  }
}

/**
 * The kernels that every case which selects them passed with, and for the others the cases that are in the way.
 *
 * @param about what all kernels share: device, driver, commit, date
 */
export function verifiedKernels(
  { vectors, texts }: Pick<PreparedCases, 'vectors' | 'texts'>,
  records: readonly CaseRecord[],
  about: Omit<VerifiedKernel, 'textHash' | 'cases' | 'worst'>,
): { verified: Record<string, VerifiedKernel>; refused: Record<string, string[]> } {
  // A case that was skipped may have run later.
  const verdicts = new Map(records.map((r) => [r.case, r]))
  const verified: Record<string, VerifiedKernel> = {}
  const refused: Record<string, string[]> = {}
  for (const kernel of new Set(vectors.flatMap(({ kernels }) => kernels))) {
    const own = vectors.filter(({ kernels }) => kernels.includes(kernel)).map((v) => v.case)
    const bad = own.filter((id) => !verdicts.get(id)?.pass)
    if (bad.length > 0) {
      refused[kernel] = bad
      continue
    }
    const worst = Math.max(...own.map((id) => Number(verdicts.get(id)!.worst)))
    verified[kernel] = { textHash: texts[kernel]!, ...about, cases: own.length, worst }
  }
  return { verified, refused }
}
