import type { KernelRule } from './rule.ts'

export const cast: KernelRule = () => ({ unsupported: 'not written yet' })
export const store: KernelRule = () => ({ unsupported: 'not written yet' })
export const transpose: KernelRule = () => ({ unsupported: 'not written yet' })
export const reduce: KernelRule = () => ({ unsupported: 'not written yet' })
export const broadcast: KernelRule = () => ({ unsupported: 'not written yet' })
export const quantize: KernelRule = () => ({ unsupported: 'not written yet' })
