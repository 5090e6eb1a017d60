import type { KernelRule } from './rule.ts'

export const softmax: KernelRule = () => ({ unsupported: 'not written yet' })
export const softmax_backward: KernelRule = () => ({ unsupported: 'not written yet' })
export const cross_entropy: KernelRule = () => ({ unsupported: 'not written yet' })
export const cross_entropy_backward: KernelRule = () => ({ unsupported: 'not written yet' })
export const argmax: KernelRule = () => ({ unsupported: 'not written yet' })
