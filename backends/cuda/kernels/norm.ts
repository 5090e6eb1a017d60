import type { KernelRule } from './rule.ts'

export const rms_norm: KernelRule = () => ({ unsupported: 'not written yet' })
export const rms_norm_backward_input: KernelRule = () => ({ unsupported: 'not written yet' })
export const rms_norm_backward_weight: KernelRule = () => ({ unsupported: 'not written yet' })
export const layer_norm: KernelRule = () => ({ unsupported: 'not written yet' })
export const layer_norm_backward_input: KernelRule = () => ({ unsupported: 'not written yet' })
export const layer_norm_backward_weight: KernelRule = () => ({ unsupported: 'not written yet' })
export const bias_backward: KernelRule = () => ({ unsupported: 'not written yet' })
