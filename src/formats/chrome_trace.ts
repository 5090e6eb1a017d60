/**
 * Events of the Trace Event Format (Google 2016, "Trace Event Format"), which Perfetto and chrome://tracing open: names and
 * order of processes and threads (M), slices of a thread (X), and arrows that start (s) and end (f) in a slice. Times in
 * microseconds.
 */
export type ChromeEvent = { readonly name: string; readonly pid: number; readonly tid: number } & (
  | { readonly ph: 'M'; readonly args: Arguments }
  | {
      readonly ph: 'X'
      readonly cat: string
      readonly ts: number
      readonly dur: number
      readonly args: Arguments
    }
  | { readonly ph: 's'; readonly cat: string; readonly ts: number; readonly id: number }
  | { readonly ph: 'f'; readonly bp: 'e'; readonly cat: string; readonly ts: number; readonly id: number }
)

/** What is shown of a slice beside its times. */
type Arguments = Readonly<Record<string, string | number>>

/** A trace file, as JSON. */
export interface ChromeTrace {
  readonly traceEvents: readonly ChromeEvent[]
  readonly displayTimeUnit: 'ms'
  /** About the whole trace. */
  readonly otherData?: Readonly<Record<string, string>>
}
