import type { OpName } from '../../../src/ops/index.ts'
import { linearCrossEntropyRules } from '../../linear_cross_entropy.ts'
import { attention } from './attention.ts'
import { attention_backward } from './attention_backward.ts'
import { attention_paged } from './attention_paged.ts'
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
import { embedding, embedding_backward } from './embedding.ts'
import { kv_write } from './kv_write.ts'
import {
  argmax,
  cross_entropy,
  cross_entropy_backward,
  cross_entropy_join,
  cross_entropy_shard,
  softmax,
  softmax_backward,
} from './logits.ts'
import { matmul, matmul_backward_input, matmulBackwardWeight, matmulGated } from './matmul.ts'
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
import { ropeKvWrite } from './rope_kv_write.ts'
import type { KernelRule } from './rule.ts'
import { random_bits, sample } from './sample.ts'
import { tokens_read, tokens_write } from './tokens.ts'

/** Bytes of logits that linear_cross_entropy has at a time. */
const LOGITS = 512 << 20

/** Kernel rule of every built-in op. */
export const kernelRules: Record<OpName, KernelRule> = {
  tokens_read,
  tokens_write,
  adamw,
  square_sums,
  norm_of_sums,
  sample,
  random_bits,
  cast,
  store,
  transpose,
  reduce,
  broadcast,
  quantize,
  rope,
  softmax,
  softmax_backward,
  cross_entropy,
  cross_entropy_backward,
  cross_entropy_shard,
  cross_entropy_join,
  ...linearCrossEntropyRules((op) => kernelRules[op as OpName], LOGITS),
  argmax,
  attention_paged,
  kv_write,
  rope_kv_write: (call, traits) => ropeKvWrite(call, (part) => kernelRules[part.op as OpName](part, traits)),
  add,
  mul,
  accumulate,
  fill,
  copy,
  gelu_tanh,
  gelu_tanh_backward,
  silu,
  silu_backward,
  swiglu,
  swiglu_backward,
  geglu,
  geglu_backward,
  embedding,
  embedding_backward,
  rms_norm,
  rms_norm_backward_input,
  rms_norm_backward_weight,
  layer_norm,
  layer_norm_backward_input,
  layer_norm_backward_weight,
  bias_backward,
  attention,
  attention_backward,
  matmul,
  matmul_backward_input,
  matmul_backward_weight: (call, traits) =>
    matmulBackwardWeight(call, traits, (part) => kernelRules[part.op as OpName](part, traits)),
  matmul_gated: (call, traits) => matmulGated(call, (part) => kernelRules[part.op as OpName](part, traits)),
  matmul_grouped,
  matmul_grouped_backward_input,
  matmul_grouped_backward_weight,
}
