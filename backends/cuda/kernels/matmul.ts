import type { KernelRule } from './rule.ts'

export const matmul: KernelRule = () => ({ unsupported: 'not written yet' })
export const matmul_backward_input: KernelRule = () => ({ unsupported: 'not written yet' })
export const matmul_backward_weight: KernelRule = () => ({ unsupported: 'not written yet' })
