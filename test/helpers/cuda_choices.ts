import type { KernelChoice } from '../../backends/backend.ts'
import type { CudaTarget } from '../../backends/cuda/target.ts'
import type { OpCall } from '../../src/ops/contract.ts'

/** Every choice of kernels that a target has for a call. */
export function cudaChoices(target: CudaTarget, call: OpCall): KernelChoice[] {
  const names = target.variants(call)
  return names.length > 0 ? names.map((name) => target.withVariant(name).choose(call)) : [target.choose(call)]
}
