import type { Sanitizer } from '../emulated.ts'

/** How a fault shows. Its correct twin must pass the same check. */
export type Detection =
  /** Results differ between orders of threads and blocks. */
  | { by: 'order' }
  /** The launch fails with this code and message. */
  | { by: 'error'; code: number; message: RegExp }
  /** A build with this sanitizer ends with this report. */
  | { by: 'sanitizer'; sanitizer: Sanitizer; report: RegExp }
  /** Poison reaches the output. */
  | { by: 'nan' }

export const ILLEGAL_ADDRESS = 700
export const LAUNCH_TIMEOUT = 702
const LAUNCH_FAILED = 719
export const byOrder: Detection = { by: 'order' }
export const byNan: Detection = { by: 'nan' }
export const fails = (message: RegExp, code = LAUNCH_FAILED): Detection => ({ by: 'error', code, message })
export const address = (report: RegExp): Detection => ({ by: 'sanitizer', sanitizer: 'address', report })
export const undefinedBehaviour = (report: RegExp): Detection => ({
  by: 'sanitizer',
  sanitizer: 'undefined',
  report,
})

export interface Fault {
  readonly file: string
  readonly kernel: string
  readonly grid?: number
  readonly threads: number
  /** Elements of the input and the output, where not one a thread. */
  readonly elements?: number
  readonly env?: Record<string, string>
  /** Bytes of dynamic shared memory of a kernel that takes a tensor map of x instead of x. */
  readonly shared?: number
  /** Rows of that map's boxes, where not all. */
  readonly boxRows?: number
  readonly caught: Detection
}

export const inFile = (file: string, faults: Omit<Fault, 'file'>[]): Fault[] =>
  faults.map((f) => ({ file, ...f }))
