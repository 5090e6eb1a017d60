import type { Access } from '../../../src/program/program.ts'
import type { LaunchPlan, TargetLimits } from '../../backend.ts'
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
 * `multiple` elements (itself a multiple of the binding alignment). Where not even one multiple fits, parts are
 * one multiple each and the verifier refuses them.
 */
export function parts(
  n: number,
  { maxBindingSize, bindingAlignment }: TargetLimits,
  multiple = bindingAlignment / 4,
): Part[] {
  const most = Math.max(1, Math.floor(maxBindingSize / 4 / multiple)) * multiple
  const list: Part[] = []
  for (let first = 0; first < n; first += most) {
    const elements = Math.min(most, n - first)
    list.push({ elements, offset: first * 4, bytes: elements * 4 })
  }
  return list
}

/** Some rows of a [rows, width] f32 matrix, and the binding of the same rows of any tensor. */
export interface RowPart {
  readonly first: number
  readonly rows: number
  /** Binding of a tensor with `wordsPerRow` 4-byte elements in each row. */
  bind(port: string, access: Access, wordsPerRow: number): LaunchPlan['bindings'][number]
}

/** Cuts a matrix by rows, so that each part fits one binding and starts aligned in tensors of any width. */
export const rowParts = (rows: number, width: number, limits: TargetLimits): RowPart[] =>
  parts(rows * width, limits, (limits.bindingAlignment / 4) * width).map(({ elements, offset }) => ({
    first: offset / 4 / width,
    rows: elements / width,
    bind: (port, access, wordsPerRow) => ({
      port,
      access,
      offset: (offset / width) * wordsPerRow,
      bytes: (elements / width) * 4 * wordsPerRow,
    }),
  }))
