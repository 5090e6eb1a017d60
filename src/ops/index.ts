import { check, ExactmapError } from '../errors.ts'
import { checkType, showType, type TensorType } from '../tensor/type.ts'
import { adamw } from './adamw.ts'
import { argmax } from './argmax.ts'
import { attention } from './attention.ts'
import { attention_backward } from './attention_backward.ts'
import { attention_paged } from './attention_paged.ts'
import { bias_backward } from './bias_backward.ts'
import { cast } from './cast.ts'
import { receive, send } from './collectives/boundary.ts'
import {
  all_gather,
  all_reduce,
  all_to_all,
  rank_broadcast,
  reduce_scatter,
} from './collectives/collectives.ts'
import { cross_entropy_parallel } from './collectives/cross_entropy_parallel.ts'
import { exchange } from './collectives/exchange.ts'
import type { Attributes, OpCall, OpContract, Ports } from './contract.ts'
import { copy } from './copy.ts'
import { cross_entropy } from './cross_entropy.ts'
import { cross_entropy_backward } from './cross_entropy_backward.ts'
import { cross_entropy_join, cross_entropy_shard } from './cross_entropy_shard.ts'
import { accumulate, add, mul } from './elementwise.ts'
import { embedding, embedding_backward } from './embedding.ts'
import { fill } from './fill.ts'
import { geglu, geglu_backward } from './geglu.ts'
import { gelu_tanh, gelu_tanh_backward } from './gelu_tanh.ts'
import { kv_write } from './kv_write.ts'
import { layer_norm, layer_norm_backward_input, layer_norm_backward_weight } from './layer_norm.ts'
import {
  linear_cross_entropy,
  linear_cross_entropy_backward_input,
  linear_cross_entropy_backward_weight,
} from './linear_cross_entropy.ts'
import { matmul } from './matmul.ts'
import { matmul_backward_input } from './matmul_backward_input.ts'
import { matmul_backward_weight } from './matmul_backward_weight.ts'
import { matmul_gated } from './matmul_gated.ts'
import { matmul_grouped } from './matmul_grouped.ts'
import { matmul_grouped_backward_input, matmul_grouped_backward_weight } from './matmul_grouped_backward.ts'
import { quantize } from './quantize.ts'
import { random_bits } from './random_bits.ts'
import { broadcast, reduce } from './reduce.ts'
import { rms_norm, rms_norm_backward_input, rms_norm_backward_weight } from './rms_norm.ts'
import { rope } from './rope.ts'
import { rope_kv_write } from './rope_kv_write.ts'
import { sample } from './sample.ts'
import { silu, silu_backward } from './silu.ts'
import { softmax, softmax_backward } from './softmax.ts'
import { norm_of_sums, square_sums } from './square_sums.ts'
import { store } from './store.ts'
import { swiglu, swiglu_backward } from './swiglu.ts'
import { tokens_read, tokens_write } from './tokens.ts'
import { transpose } from './transpose.ts'

/** Every built-in op. Backends have a table over the same keys, so a missing kernel rule does not compile. */
export const ops = {
  embedding,
  embedding_backward,
  matmul,
  matmul_backward_input,
  matmul_backward_weight,
  matmul_gated,
  matmul_grouped,
  matmul_grouped_backward_input,
  matmul_grouped_backward_weight,
  rms_norm,
  rms_norm_backward_input,
  rms_norm_backward_weight,
  layer_norm,
  layer_norm_backward_input,
  layer_norm_backward_weight,
  bias_backward,
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
  quantize,
  gelu_tanh,
  gelu_tanh_backward,
  silu,
  silu_backward,
  swiglu,
  swiglu_backward,
  geglu,
  geglu_backward,
  rope,
  attention,
  attention_backward,
  kv_write,
  rope_kv_write,
  attention_paged,
  softmax,
  softmax_backward,
  cross_entropy,
  cross_entropy_backward,
  cross_entropy_shard,
  cross_entropy_join,
  linear_cross_entropy,
  linear_cross_entropy_backward_input,
  linear_cross_entropy_backward_weight,
  argmax,
  sample,
  random_bits,
  tokens_write,
  tokens_read,
  adamw,
  square_sums,
  norm_of_sums,
} satisfies Record<string, OpContract>

export type OpName = keyof typeof ops

/** Ops over several ranks: lowered to exchanges and the ops above, so no backend has kernels for them. */
export const collectives = {
  exchange,
  send,
  receive,
  all_reduce,
  reduce_scatter,
  all_gather,
  all_to_all,
  rank_broadcast,
  cross_entropy_parallel,
} satisfies Record<string, OpContract>

const builtIn: Readonly<Record<string, OpContract>> = { ...ops, ...collectives }
const userOps = new Map<string, OpContract>()

/** Registers an op from outside the package. Kernels are registered with each backend (see docs/ops.md). */
export function registerOp(contract: OpContract): void {
  check(
    /^[a-z][a-z0-9_]*$/.test(contract.name),
    'invalid_argument',
    `op name '${contract.name}' is not snake_case`,
  )
  check(
    !(contract.name in builtIn) && !userOps.has(contract.name),
    'conflict',
    `an op named '${contract.name}' is already registered`,
  )
  userOps.set(contract.name, contract)
}

/** All contracts: built-in, then registered ones. */
export const allOps = (): OpContract[] => [...(Object.values(ops) as OpContract[]), ...userOps.values()]

export function opContract(name: string): OpContract {
  const contract = Object.hasOwn(builtIn, name) ? builtIn[name] : userOps.get(name)
  if (!contract)
    throw new ExactmapError(
      'not_found',
      `no op is named '${name}'; known: ${allOps()
        .map((o) => o.name)
        .join(', ')}`,
    )
  return contract
}

/** Checks ports, formats and attributes, infers the outputs. */
export function checkCall(contract: OpContract, attrs: Attributes, inputs: Ports<TensorType>): OpCall {
  const { name } = contract
  const parsed = contract.attributes.safeParse(attrs)
  if (!parsed.success) {
    const first = parsed.error.issues[0]!
    throw new ExactmapError(
      'invalid_argument',
      `${name}: attribute ${first.path.join('.') || '(all)'}: ${first.message}`,
    )
  }
  for (const port of Object.keys(inputs))
    check(
      port in contract.inputs || contract.anyInputs,
      'invalid_argument',
      `${name} has no input '${port}'; it has ${Object.keys(contract.inputs).join(', ')}`,
    )
  for (const [port, spec] of Object.entries(contract.inputs)) {
    const type = inputs[port]
    if (!type) {
      check(spec.optional, 'invalid_argument', `${name} needs input '${port}' ${spec.doc}`)
      continue
    }
    check(
      spec.formats.includes(type.format),
      'unsupported',
      () => `${name}.${port} accepts ${spec.formats.join(', ')}, got ${showType(type)}`,
    )
    checkType(type, `${name}.${port}`)
  }
  for (const [port, type] of Object.entries(inputs))
    if (!(port in contract.inputs)) checkType(type, `${name}.${port}`)
  const outputs = contract.infer(parsed.data, inputs)
  for (const [port, type] of Object.entries(outputs)) checkType(type, `${name}.${port}`)
  return { op: name, attrs: parsed.data, inputs, outputs }
}
