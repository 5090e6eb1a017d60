import type { WebGpuTraits } from './rule.ts'

/** A free choice of a kernel rule: it changes how fast a kernel is, and no bit of what it computes. */
export interface Parameter {
  readonly doc: string
  /** All values there are, ascending. */
  readonly values: readonly number[]
}

/** Parameters by the name that tuning files have for them. */
export type Parameters = Readonly<Record<string, Parameter>>

/** A value for some parameters by name. */
export type Choice = Readonly<Record<string, number>>

/** One place where a rule has a choice: what a tuning is asked about. */
export interface Decision {
  readonly op: string
  /** Variant of the kernel; it names the storage formats that matter. */
  readonly kernel: string
  /** Sizes that the best choice depends on, each at least 1. */
  readonly shape: Readonly<Record<string, number>>
  /** Values that this call allows, and the one that is taken where nothing was measured. */
  readonly options: Readonly<
    Record<string, { readonly values: readonly number[]; readonly heuristic: number }>
  >
}

/** What was measured to be best; of parameters that it does not name nothing is known. */
export type Tuning = (decision: Decision) => Choice

/** What the tuning of the target says of a decision, as far as the call allows it, else the heuristics. */
export function decide<Name extends string>(
  { tuning }: WebGpuTraits,
  decision: Decision & { readonly options: Readonly<Record<Name, Decision['options'][string]>> },
): Record<Name, number> {
  const found = tuning?.(decision) ?? {}
  const chosen = Object.entries(decision.options).map(([name, { values, heuristic }]) => {
    const value = found[name]
    return [name, value !== undefined && values.includes(value) ? value : heuristic]
  })
  return Object.fromEntries(chosen) as Record<Name, number>
}
