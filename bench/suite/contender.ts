/**
 * What a benchmark asks of an engine, ours or a peer's. Every engine runs in a process of its own (worker.ts), so that
 * none sees another's threads, memory or crashes; the suite lets them take turns, round by round (measure.ts).
 */
import type { DriverName } from './drivers.ts'
import type { Work } from './works.ts'

/** One engine in its process. */
export interface Contender {
  readonly name: string
  readonly version: string
  /** Runs on the driver under test; a native one runs on the CPU itself. */
  readonly kind: 'webgpu' | 'vulkan' | 'native'
  /** What it says it runs on. */
  readonly device: string
  /** Compiles and uploads whatever the work needs; nothing of that is timed. A string says why it can't do this work. */
  prepare(work: Work): Promise<Prepared | { readonly unsupported: string }>
}

/** A work that is ready to run, warm. */
export interface Prepared {
  /**
   * Does the work `times` over, inputs on the device, and waits for the last: milliseconds of one. What an engine can't
   * leave out (uploading inputs, reading results back) counts, and is said in `notes`.
   */
  run(times: number): Promise<number>
  /** Values of the result at flat indices, of the last run. */
  sample(indices: readonly number[]): Promise<number[]>
  /** What a reader of the figure should know: variant, precision, what could not be left out. */
  readonly notes?: string
  /** Figures the engine measured of itself, by name. */
  readonly facts?: Readonly<Record<string, number>>
  release(): Promise<void>
}

/** How a worker finds its engine; a string says why the engine is not here and how to get it. */
export type OpenContender = (driver: DriverName) => Promise<Contender | string>

/** Milliseconds that `body` takes, divided by `times`. */
export async function timed(times: number, body: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await body()
  return (performance.now() - start) / times
}

/** Lines between the suite and a worker: one JSON object each, answers in the order of the questions. */
export type Question =
  | { readonly ask: 'prepare'; readonly work: Work }
  | { readonly ask: 'run'; readonly times: number }
  | { readonly ask: 'sample'; readonly indices: readonly number[] }
  | { readonly ask: 'release' }

export interface Hello {
  readonly name: string
  readonly version: string
  readonly kind: Contender['kind']
  readonly device: string
}

export type Answer =
  | { readonly hello: Hello }
  | { readonly missing: string }
  | { readonly unsupported: string }
  | { readonly ready: { readonly notes?: string } }
  | { readonly ms: number }
  | { readonly values: readonly number[] }
  | { readonly released: { readonly facts?: Readonly<Record<string, number>> } }
  | { readonly error: string }
