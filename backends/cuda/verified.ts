/**
 * `kernels-cuda/verified.json`: what real hardware has seen of each kernel, by exact architecture and kernel. Written
 * by `npm run gpu` from the executable's verify report; a kernel whose text changed since is stale.
 */
export type VerifiedRecord = Readonly<Record<string, Readonly<Record<string, VerifiedKernel>>>>

export interface VerifiedKernel {
  /** Hash of the module's text that was checked (`CudaTarget.moduleText`). */
  readonly textHash: string
  readonly device: string
  /** CUDA version of the driver. */
  readonly driver: string
  readonly commit: string
  /** Day of the run, YYYY-MM-DD. */
  readonly date: string
  /** Stored cases it passed in. */
  readonly cases: number
  /** Largest error in units of its budget. */
  readonly worst: number
}

/** What may be said of a kernel on an architecture. */
export function kernelState(record: VerifiedRecord, arch: string, kernel: string, textHash: string): string {
  const known = record[arch]?.[kernel]
  if (!known) return 'not run on hardware'
  if (known.textHash !== textHash) return `stale: changed since ${known.date}`
  return `${known.date}, ${known.device}, ${known.cases} cases, ${known.worst.toFixed(2)} of the budget`
}
