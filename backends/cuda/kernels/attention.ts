import type { DenseAttributes } from '../../../src/ops/attention_math.ts'
import type { OpCall } from '../../../src/ops/contract.ts'
import type { LaunchPlan } from '../../backend.ts'
import { attentionTensorCores } from './attention_tensor_cores.ts'
import { type KernelRule, launch } from './rule.ts'

/** Rows of a tile in kernels-cuda/lib/attention_tile.h. */
const TILE_ROWS = 64

/** A launch of portable kernels, with a block per tile of each of `heads` heads. */
export function dense(
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
    `${kernel}_${a.head_dim <= 128 ? 128 : 256}_${inputs.qkv!.format}`,
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
      out_bits: a.output ? 16 : 32,
    },
  )
}

/** attention_wgmma or attention_tcgen05 where qkv has 16 bits. */
export const attention: KernelRule = (call, traits) =>
  attentionTensorCores(call, traits) ?? {
    launches: [
      dense(call, 'attention', 'attention', call.attrs.heads, [
        { port: 'qkv', access: 'read' },
        { port: 'y', access: 'write' },
        { port: 'lse', access: 'write' },
      ]),
    ],
  }
