import type { KernelRule } from './rule.ts'

export const embedding: KernelRule = () => ({ unsupported: 'not written yet' })
export const embedding_backward: KernelRule = () => ({ unsupported: 'not written yet' })
