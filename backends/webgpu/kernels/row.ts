import type { TargetLimits } from '../../backend.ts'
import type { WebGpuTraits } from './rule.ts'

/** How many elements of a row of `width` one load takes: the module `lib/pack_<n>`. */
export const packOf = (width: number): 1 | 4 => (width % 4 === 0 ? 4 : 1)

/** How the lanes of one workgroup join their results: the module, and the workgroup size it needs. */
export interface Reduction {
  readonly module: 'lib/reduce_subgroup' | 'lib/reduce_tree'
  readonly workgroup: number
}

/** One subgroup per workgroup where there are subgroups (barriers are slow on software drivers), else a tree. */
export const rowReduction = ({ features, subgroupSize }: WebGpuTraits): Reduction =>
  features.has('subgroups')
    ? { module: 'lib/reduce_subgroup', workgroup: subgroupSize }
    : { module: 'lib/reduce_tree', workgroup: 64 }

/** A part of a flat f32 range, small enough for one binding. */
export interface Part {
  readonly elements: number
  /** Offset and size for a binding. */
  readonly offset: number
  readonly bytes: number
}

/**
 * Cuts a flat f32 range of n elements into parts of at most the largest binding, each but the last a multiple of
 * `multiple` elements (itself a multiple of the binding alignment).
 */
export function parts(
  n: number,
  { maxBindingSize, bindingAlignment }: TargetLimits,
  multiple = bindingAlignment / 4,
): Part[] {
  const most = Math.floor(maxBindingSize / 4 / multiple) * multiple
  const list: Part[] = []
  for (let first = 0; first < n; first += most) {
    const elements = Math.min(most, n - first)
    list.push({ elements, offset: first * 4, bytes: elements * 4 })
  }
  return list
}
