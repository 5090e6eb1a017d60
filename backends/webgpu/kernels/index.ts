import type { OpName } from '../../../src/ops/index.ts'
import { rms_norm } from './rms_norm.ts'
import type { KernelRule } from './rule.ts'

/** Kernel rule of every built-in op. */
export const kernelRules: Record<OpName, KernelRule> = {
  matmul: () => ({ unsupported: 'being written' }),
  rms_norm,
}
