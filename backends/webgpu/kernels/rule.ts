import type { OpCall } from '../../../src/ops/contract.ts'
import type { KernelChoice, TargetLimits } from '../../backend.ts'
import type { Parameters, Tuning } from './parameter.ts'

/** What a kernel rule may look at besides the call. */
export interface WebGpuTraits {
  readonly limits: TargetLimits
  readonly features: ReadonlySet<string>
  readonly subgroupSize: number
  /** Without one every parameter has its heuristic value. */
  readonly tuning?: Tuning
}

/** Chooses variant, constants, grid and bindings of one op call. Pure: same call and traits, same launches. */
export interface KernelRule {
  (call: OpCall, traits: WebGpuTraits): KernelChoice
  /** What it takes from the tuning, through `decide`. */
  readonly parameters?: Parameters
}

/** A rule that has parameters. */
export const tunable = (parameters: Parameters, rule: KernelRule): KernelRule =>
  Object.assign(rule, { parameters })

/** Is the device a CPU with short vectors? Its driver does every load lane by lane: what a lane holds, it should use often. */
export const isCpu = ({ subgroupSize }: WebGpuTraits): boolean => subgroupSize > 1 && subgroupSize <= 8

/** Largest workgroup count in one dimension that every device accepts. */
export const MAX_GROUPS = 65535

/**
 * Grid for `groups` workgroups in one dimension, folded into x and y when there are too many.
 * Kernels get the flat index from `workgroup_id.x + workgroup_id.y * GRID_X` and return when it is past the end.
 */
export function foldGrid(groups: number): { workgroups: [number, number, number]; gridX: number } {
  if (groups <= MAX_GROUPS) return { workgroups: [groups, 1, 1], gridX: groups }
  const y = Math.ceil(groups / MAX_GROUPS)
  const x = Math.ceil(groups / y)
  return { workgroups: [x, y, 1], gridX: x }
}
