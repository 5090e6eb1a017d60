import type { KernelRule } from './rule.ts'

export const attention: KernelRule = () => ({ unsupported: 'not written yet' })
export const attention_backward: KernelRule = () => ({ unsupported: 'not written yet' })
