import type { KernelRule } from './rule.ts'

export const adamw: KernelRule = () => ({ unsupported: 'not written yet' })
export const global_norm: KernelRule = () => ({ unsupported: 'not written yet' })
export const clip_by_norm: KernelRule = () => ({ unsupported: 'not written yet' })
