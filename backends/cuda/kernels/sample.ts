import type { KernelRule } from './rule.ts'

export const sample: KernelRule = () => ({ unsupported: 'not written yet' })
export const random_bits: KernelRule = () => ({ unsupported: 'not written yet' })
