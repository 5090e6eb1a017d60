import type { KernelChoice } from '../../backend.ts'
import type { TunedShape } from '../../tuned_shape.ts'
import type { CudaTraits } from './rule.ts'

/** A place where a rule has kernels of an exact architecture besides the portable one: what tuning data is asked about. */
export interface Selection {
  readonly op: string
  /** Storage formats, and whatever else no two calls may differ in to share an entry: `bf16`, `f16_128`. */
  readonly formats: string
  readonly shape: TunedShape
}

/** The name of the kernels that every architecture has. */
export const PORTABLE = 'portable'

/** A kernel of an exact architecture that can do a call. */
export interface Variant {
  /** What tuning files call it. */
  readonly name: string
  /** Predicted by the rule from the datasheet, not measured: which of several to try where nothing was. */
  readonly cycles: number
  readonly choice: () => KernelChoice
}

/** What tuning data says of a call: the name of a variant; undefined where it knows nothing, or of something better. */
export type VariantTuning = (selection: Selection, variants: readonly Variant[]) => string | undefined

/**
 * The variant that tuning data has for the nearest shape; undefined where it has none, and the portable kernel is taken:
 * a kernel of an exact architecture runs where it is known to be the best.
 */
export function selectVariant(
  { tuning }: CudaTraits,
  selection: Selection,
  variants: readonly Variant[],
): KernelChoice | undefined {
  const name = variants.length > 0 ? tuning?.(selection, variants) : undefined
  return variants.find((variant) => variant.name === name)?.choice()
}
