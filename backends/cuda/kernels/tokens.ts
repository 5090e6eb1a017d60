import type { KernelRule } from './rule.ts'

export const tokens_read: KernelRule = () => ({ unsupported: 'not written yet' })
export const tokens_write: KernelRule = () => ({ unsupported: 'not written yet' })
