import type { KernelRule } from './rule.ts'

export const rope: KernelRule = () => ({ unsupported: 'not written yet' })
