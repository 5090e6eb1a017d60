import type { OpCall } from '../../../src/ops/contract.ts'
import type { KernelChoice, LaunchPlan } from '../../backend.ts'
import type { VariantTuning } from './variant.ts'

/** What a kernel rule may look at besides the call. */
export interface CudaTraits {
  /** Exact architecture: `sm_90a` or `sm_103a`. */
  readonly arch: string
  readonly multiprocessors: number
  /** Which of its exact architecture's kernels a call gets; without it all are portable ones. */
  readonly tuning?: VariantTuning
}

/** Chooses kernels, constants, grid and bindings of one op call. Pure: same call and traits, same launches. */
export type KernelRule = (call: OpCall, traits: CudaTraits) => KernelChoice

/** A launch of `kernel`, declared in `<module>.cu`, with `blocks` blocks. Constants are its scalar parameters by name. */
export const launch = (
  module: string,
  kernel: string,
  blocks: number,
  bindings: LaunchPlan['bindings'],
  constants: Readonly<Record<string, number>> = {},
): LaunchPlan => ({
  variant: kernel,
  modules: [module],
  constants,
  workgroups: [blocks, 1, 1],
  bindings,
})
