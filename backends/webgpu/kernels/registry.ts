import { KernelRules } from '../../kernel_rules.ts'
import { kernelRules } from './index.ts'
import type { KernelRule } from './rule.ts'

/** All rules: the built-in ones and those that were registered. */
export const rules = new KernelRules<KernelRule>('WebGPU', kernelRules, 'registerWebGpuKernel')
