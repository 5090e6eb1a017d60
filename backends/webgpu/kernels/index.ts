import type { OpName } from '../../../src/ops/index.ts'
import { embedding } from './embedding.ts'
import { embedding_backward } from './embedding_backward.ts'
import { matmul } from './matmul.ts'
import { matmul_backward_input } from './matmul_backward_input.ts'
import { matmul_backward_weight } from './matmul_backward_weight.ts'
import { rms_norm } from './rms_norm.ts'
import { argmax, cross_entropy, cross_entropy_backward, softmax, softmax_backward } from './logits.ts'
import { adamw, clip_by_norm, global_norm } from './optimizer.ts'
import { random_bits, sample } from './sample.ts'
import { tokens_read, tokens_write } from './tokens.ts'
import type { KernelRule } from './rule.ts'

/** Kernel rule of every built-in op. */
export const kernelRules: Record<OpName, KernelRule> = {
  embedding,
  embedding_backward,
  matmul,
  matmul_backward_input,
  matmul_backward_weight,
  rms_norm,
  softmax,
  softmax_backward,
  cross_entropy,
  cross_entropy_backward,
  argmax,
  sample,
  random_bits,
  tokens_write,
  tokens_read,
  adamw,
  global_norm,
  clip_by_norm,
}
