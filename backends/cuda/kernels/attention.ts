import type { DenseAttributes } from '../../../src/ops/attention_math.ts'
import type { OpCall } from '../../../src/ops/contract.ts'
import { tensorType } from '../../../src/tensor/type.ts'
import type { LaunchPlan } from '../../backend.ts'
import { type KernelRule, launch } from './rule.ts'

/** Rows of a tile in kernels-cuda/lib/attention_tile.h. */
const TILE_ROWS = 64

/** A launch with a block per tile of each of `heads` heads. */
function dense(
  { attrs, inputs }: OpCall,
  module: string,
  kernel: string,
  heads: number,
  bindings: LaunchPlan['bindings'],
): LaunchPlan {
  const a: DenseAttributes = attrs
  const batch = inputs.qkv!.shape[0]! / a.sequence
  return launch(
    module,
    `${kernel}_${a.head_dim <= 128 ? 128 : 256}`,
    Math.ceil(a.sequence / TILE_ROWS) * heads * batch,
    inputs.documents ? [...bindings, { port: 'documents', access: 'read' }] : bindings,
    {
      heads: a.heads,
      kv_heads: a.kv_heads,
      dim: a.head_dim,
      sequence: a.sequence,
      causal: Number(a.causal),
      window: a.window,
      scale: a.scale,
      softcap: a.softcap,
    },
  )
}

export const attention: KernelRule = (call) => ({
  launches: [
    dense(call, 'attention', 'attention', call.attrs.heads, [
      { port: 'qkv', access: 'read' },
      { port: 'y', access: 'write' },
      { port: 'lse', access: 'write' },
    ]),
  ],
})

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
