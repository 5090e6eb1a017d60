import type { OpName } from '../../../src/ops/index.ts'
import { linearCrossEntropyRules } from '../../linear_cross_entropy.ts'
import { attention, attention_backward, attention_paged } from './attention.ts'
import { cast, quantize, store } from './conversion.ts'
import {
  accumulate,
  add,
  copy,
  fill,
  geglu,
  geglu_backward,
  gelu_tanh,
  gelu_tanh_backward,
  mul,
  silu,
  silu_backward,
  swiglu,
  swiglu_backward,
} from './elementwise.ts'
import { embedding } from './embedding.ts'
import { embedding_backward } from './embedding_backward.ts'
import { kv_write, ropeKvWrite } from './kv_write.ts'
import {
  argmax,
  cross_entropy,
  cross_entropy_backward,
  cross_entropy_join,
  cross_entropy_shard,
  softmax,
  softmax_backward,
} from './logits.ts'
import { matmul, matmulGated } from './matmul.ts'
import { matmul_backward_input } from './matmul_backward_input.ts'
import { matmul_backward_weight, matmulBackwardWeight } from './matmul_backward_weight.ts'
import {
  matmul_grouped,
  matmul_grouped_backward_input,
  matmul_grouped_backward_weight,
} from './matmul_grouped.ts'
import { broadcast, reduce, transpose } from './movement.ts'
import {
  bias_backward,
  layer_norm,
  layer_norm_backward_input,
  layer_norm_backward_weight,
  rms_norm,
  rms_norm_backward_input,
  rms_norm_backward_weight,
} from './norm.ts'
import { adamw, norm_of_sums, square_sums } from './optimizer.ts'
import { rope } from './rope.ts'
import type { KernelRule } from './rule.ts'
import { random_bits, sample } from './sample.ts'
import { throughF32 } from './through_f32.ts'
import { tokens_read, tokens_write } from './tokens.ts'

/** Bytes of logits that linear_cross_entropy has at a time. */
const LOGITS = 32 << 20

/** Kernel rule of every built-in op. */
export const kernelRules: Record<OpName, KernelRule> = {
  embedding,
  embedding_backward,
  matmul: throughF32(matmul, ['x', 'y']),
  matmul_backward_input: throughF32(matmul_backward_input, ['dy', 'dx']),
  matmul_backward_weight: matmulBackwardWeight(
    throughF32(matmul_backward_weight, ['dy', 'x']),
    (part, traits) => kernelRules[part.op as OpName](part, traits),
  ),
  matmul_gated: throughF32(
    matmulGated((part, traits) => kernelRules[part.op as OpName](part, traits)),
    ['x'],
  ),
  matmul_grouped: throughF32(matmul_grouped, ['x', 'y']),
  matmul_grouped_backward_input: throughF32(matmul_grouped_backward_input, ['dy', 'dx']),
  matmul_grouped_backward_weight: throughF32(matmul_grouped_backward_weight, ['dy', 'x']),
  rms_norm: throughF32(rms_norm, ['y']),
  rms_norm_backward_input: throughF32(rms_norm_backward_input, ['dy']),
  rms_norm_backward_weight: throughF32(rms_norm_backward_weight, ['dy']),
  layer_norm: throughF32(layer_norm, ['y']),
  layer_norm_backward_input: throughF32(layer_norm_backward_input, ['dy']),
  layer_norm_backward_weight: throughF32(layer_norm_backward_weight, ['dy']),
  bias_backward: throughF32(bias_backward, ['dy']),
  rope: throughF32(rope, ['x', 'y']),
  attention: throughF32(attention, ['qkv', 'y']),
  attention_backward: throughF32(attention_backward, ['dy', 'qkv', 'y', 'dqkv']),
  kv_write: throughF32(kv_write, ['qkv']),
  rope_kv_write: throughF32(
    ropeKvWrite((part, traits) => kernelRules[part.op as OpName](part, traits)),
    ['qkv', 'qkv_out'],
  ),
  attention_paged: throughF32(attention_paged, ['qkv', 'y']),
  add,
  mul,
  accumulate,
  fill,
  copy,
  cast,
  store,
  transpose,
  reduce,
  broadcast,
  quantize: throughF32(quantize, ['x']),
  gelu_tanh: throughF32(gelu_tanh, ['x', 'y']),
  gelu_tanh_backward: throughF32(gelu_tanh_backward, ['dy', 'x', 'dx']),
  silu: throughF32(silu, ['x', 'y']),
  silu_backward: throughF32(silu_backward, ['dy', 'x', 'dx']),
  swiglu: throughF32(swiglu, ['x', 'y']),
  swiglu_backward: throughF32(swiglu_backward, ['dy', 'x', 'dx']),
  geglu: throughF32(geglu, ['x', 'y']),
  geglu_backward: throughF32(geglu_backward, ['dy', 'x', 'dx']),
  softmax,
  softmax_backward,
  cross_entropy: throughF32(cross_entropy, ['logits']),
  cross_entropy_backward: throughF32(cross_entropy_backward, ['logits', 'dlogits']),
  cross_entropy_shard: throughF32(cross_entropy_shard, ['logits']),
  cross_entropy_join,
  ...linearCrossEntropyRules((op) => kernelRules[op as OpName], LOGITS),
  argmax,
  sample,
  random_bits,
  tokens_write,
  tokens_read,
  adamw,
  square_sums,
  norm_of_sums,
}
