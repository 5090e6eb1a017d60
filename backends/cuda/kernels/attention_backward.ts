import { tensorType } from '../../../src/tensor/type.ts'
import { dense } from './attention.ts'
import type { KernelRule } from './rule.ts'

/** The first launch leaves dq and delta, the second one dk and dv. */
export const attention_backward: KernelRule = (call) => ({
  scratch: { delta: tensorType('f32', call.inputs.qkv!.shape[0]!, call.attrs.heads) },
  launches: [
    dense(call, 'attention_backward', 'attention_backward_query', call.attrs.heads, [
      { port: 'dy', access: 'read' },
      { port: 'qkv', access: 'read' },
      { port: 'y', access: 'read' },
      { port: 'lse', access: 'read' },
      { port: 'dqkv', access: 'write' },
      { port: 'delta', access: 'write' },
    ]),
    dense(call, 'attention_backward', 'attention_backward_key', call.attrs.kv_heads, [
      { port: 'dy', access: 'read' },
      { port: 'qkv', access: 'read' },
      { port: 'lse', access: 'read' },
      { port: 'delta', access: 'read' },
      { port: 'dqkv', access: 'write' },
    ]),
  ],
})
