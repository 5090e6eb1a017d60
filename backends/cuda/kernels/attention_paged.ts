import type { KernelRule } from './rule.ts'

export const attention_paged: KernelRule = () => ({ unsupported: 'not written yet' })
export const kv_write: KernelRule = () => ({ unsupported: 'not written yet' })
