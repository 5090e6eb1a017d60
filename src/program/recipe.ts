import { type FormatName, formatOf } from '../tensor/format.ts'
import { lastDim } from '../tensor/type.ts'
import type { Graph, GraphNode } from './graph.ts'

/** How an op reads a value: rounded to this format, and its two dims swapped where blocks must lie along its rows. */
export interface Reading {
  readonly format: FormatName
  readonly transposed: boolean
}

/**
 * Operands of a linear layer's three products: y = x w^T, dx = dy w and dw = dy^T x. Whatever the operands, products are
 * summed in f32. Blocks of a format with scales lie along the sum, so that dx and dw read transposed copies.
 */
interface LinearFormats {
  readonly forward: Readonly<Record<'x' | 'w', FormatName>>
  readonly input: Readonly<Record<'dy' | 'w', FormatName>>
  readonly weight: Readonly<Record<'dy' | 'x', FormatName>>
}

/**
 * What a training run computes in which format. Of every recipe:
 * - Weights have f32 masters, which AdamW updates with f32 moments; what products read is rounded from them once a step.
 * - The residual stream and its gradient, the insides of norms and softmax, and the loss are f32.
 * - Gradients of parameters are summed in f32 over the rows of a microbatch, microbatches and ranks.
 * - A launch computes in f32 and rounds what it stores: to `activations` where all that read the value read it so or in
 *   blocks, else to f32; rope, activations and gates give the format that they are given. Every other format that a value
 *   is read in is made of that by one launch behind, whoever reads it and in whichever pass.
 */
export interface Recipe {
  readonly name: string
  readonly summary: string
  /** Linear layers inside the model's layers. */
  readonly layers: LinearFormats
  /** Those outside of them: the one that makes the logits. */
  readonly head: LinearFormats
  /**
   * What goes between products: norms' results, rope, attention, gates, logits, their gradients; tables of embeddings; and
   * operands of experts' products.
   */
  readonly activations: 'f32' | 'f16' | 'bf16'
}

/** All operands in one format. */
export const linearIn = (format: FormatName): LinearFormats => ({
  forward: { x: format, w: format },
  input: { dy: format, w: format },
  weight: { dy: format, x: format },
})

export const recipes = {
  f32: {
    name: 'f32',
    summary: 'all of it in f32',
    layers: linearIn('f32'),
    head: linearIn('f32'),
    activations: 'f32',
  },
  /** Micikevicius et al. 2018 (arXiv 1710.03740) with the range of bf16, so that no loss scale is needed. */
  bf16: {
    name: 'bf16',
    summary: 'products, attention and gates in bf16',
    layers: linearIn('bf16'),
    head: linearIn('bf16'),
    activations: 'bf16',
  },
  /** DeepSeek-V3 (arXiv 2412.19437), section 3.3, with blocks of 1 x 128 for weights too. */
  fp8: {
    name: 'fp8',
    summary: "the layers' products in e4m3 with a scale for each 128 elements; the rest as bf16",
    layers: linearIn('e4m3_128'),
    head: linearIn('bf16'),
    activations: 'bf16',
  },
} as const satisfies Record<string, Recipe>

export type RecipeName = keyof typeof recipes

const inLayer = /(^|\/)layer\.\d+/

/** In which formats a node of an f32 graph reads its ports; those not named it reads as they are, in f32. */
export function readingsOf(
  recipe: Recipe,
  graph: Graph,
  { op, scope, inputs }: GraphNode,
): Readonly<Record<string, Reading>> {
  const { activations } = recipe
  const { forward, input, weight } = inLayer.test(scope) ? recipe.layers : recipe.head
  switch (op) {
    case 'matmul':
      return { x: as(forward.x), w: as(forward.w) }
    case 'cross_entropy':
    case 'cross_entropy_parallel':
    case 'cross_entropy_backward':
      // A product gives 16 bits for an even number of columns only.
      return lastDim(graph.value(inputs.logits!).type.shape) % 2 === 0 ? { logits: as(activations) } : {}
    case 'linear_cross_entropy':
    case 'linear_cross_entropy_backward_input':
    case 'linear_cross_entropy_backward_weight':
      return { x: as(forward.x), w: as(forward.w) }
    case 'matmul_backward_input':
      return { dy: as(input.dy), w: alongRows(input.w) }
    case 'matmul_backward_weight':
      return { dy: alongRows(weight.dy), x: alongRows(weight.x) }
    // In no recipe in blocks: those of dw's operands would go on from one expert's rows to the next's.
    case 'matmul_grouped':
      return { x: as(activations), w: as(activations) }
    case 'matmul_grouped_backward_input':
      return { dy: as(activations), w: as(activations) }
    case 'matmul_grouped_backward_weight':
      return { dy: as(activations), x: as(activations) }
    case 'embedding':
      // Not where it gathers rows of what was computed.
      return graph.value(inputs.table!).origin.kind === 'external' ? { table: as(activations) } : {}
    case 'rope':
    case 'gelu_tanh':
    case 'silu':
    case 'swiglu':
    case 'geglu':
      return { x: as(activations) }
    case 'gelu_tanh_backward':
    case 'silu_backward':
    case 'swiglu_backward':
    case 'geglu_backward':
      return { dy: as(activations), x: as(activations) }
    case 'attention':
    case 'kv_write':
    case 'rope_kv_write':
    case 'attention_paged':
      return { qkv: as(activations) }
    case 'attention_backward':
      return { dy: as(activations), qkv: as(activations), y: as(activations) }
    case 'rms_norm_backward_input':
    case 'rms_norm_backward_weight':
    case 'layer_norm_backward_input':
    case 'layer_norm_backward_weight':
    case 'bias_backward':
      return { dy: as(activations) }
    default:
      return {}
  }
}

/** As the f32 graph has it. */
export const asItIs: Reading = { format: 'f32', transposed: false }

/** Tells readings apart; of those that are not transposed it is the format. */
export const keyOf = ({ format, transposed }: Reading): string =>
  transposed ? `${format}.transposed` : format

const as = (format: FormatName): Reading => ({ format, transposed: false })

/** A sum over rows: formats without blocks are read as they lie. */
const alongRows = (format: FormatName): Reading => ({
  format,
  transposed: formatOf(format).blockSize > 1,
})
