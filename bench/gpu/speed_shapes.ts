import type { FormatName } from '../../src/tensor/format.ts'
import { type TensorType, tensorType } from '../../src/tensor/type.ts'
import type { SpeedCase } from '../../src/verify/cuda_cases.ts'

/** x in f32, weights as they are stored. */
export const matmul = (rows: number, columns: number, depth: number, format: FormatName): SpeedCase => ({
  name: `${rows}x${columns}x${depth}_${format}`,
  op: 'matmul',
  inputs: { x: tensorType('f32', rows, depth), w: tensorType(format, columns, depth) },
})

/** All three in 16 bits, as activations between two products are. */
export const matmulIn16 = (
  rows: number,
  columns: number,
  depth: number,
  format: 'f16' | 'bf16',
): SpeedCase => ({
  name: `${rows}x${columns}x${depth}_both_${format}`,
  op: 'matmul',
  attrs: { output: format },
  inputs: { x: tensorType(format, rows, depth), w: tensorType(format, columns, depth) },
})

/** x and y in bf16, weights in blocks: dequantized for each product. */
export const matmulOfQuants = (
  rows: number,
  columns: number,
  depth: number,
  format: 'q8_0' | 'q4_0' | 'e4m3_128',
): SpeedCase => ({
  name: `${rows}x${columns}x${depth}_bf16_${format}`,
  op: 'matmul',
  attrs: { output: 'bf16' },
  inputs: { x: tensorType('bf16', rows, depth), w: tensorType(format, columns, depth) },
})

/** x and w in blocks with a scale each, y in bf16. */
export const matmulInBlocks = (
  rows: number,
  columns: number,
  depth: number,
  format: FormatName = 'e4m3_128',
): SpeedCase => ({
  name: `${rows}x${columns}x${depth}_both_${format}`,
  op: 'matmul',
  attrs: { output: 'bf16' },
  inputs: { x: tensorType(format, rows, depth), w: tensorType(format, columns, depth) },
})

interface Experts {
  readonly rows: number
  readonly experts: number
  readonly columns: number
  readonly depth: number
}

/** Offsets that deal rows out evenly. */
const evenly = ({ rows, experts }: Experts): Uint32Array =>
  Uint32Array.from({ length: experts + 1 }, (_, e) => (rows / experts) * e)

const expertsName = ({ rows, experts, columns, depth }: Experts, format: FormatName): string =>
  `${rows}x${columns}x${depth}_${experts}_experts_${format}`

/** A product of experts, y in bf16. */
export const matmulGrouped = (shape: Experts, format: 'bf16' | 'e4m3_128'): SpeedCase => ({
  name: expertsName(shape, format),
  op: 'matmul_grouped',
  attrs: { output: 'bf16' },
  inputs: {
    x: tensorType(format, shape.rows, shape.depth),
    offsets: tensorType('u32', shape.experts + 1),
    w: tensorType(format, shape.experts, shape.columns, shape.depth),
  },
  given: { offsets: evenly(shape) },
})

/** Both of its gradients in bf16. */
export function matmulGroupedBackward(shape: Experts): SpeedCase[] {
  const { rows, experts, columns, depth } = shape
  const dy = tensorType('bf16', rows, columns)
  const offsets = tensorType('u32', experts + 1)
  const rest = { name: expertsName(shape, 'bf16'), given: { offsets: evenly(shape) } }
  return [
    {
      ...rest,
      op: 'matmul_grouped_backward_input',
      attrs: { output: 'bf16' },
      inputs: { dy, offsets, w: tensorType('bf16', experts, columns, depth) },
    },
    {
      ...rest,
      op: 'matmul_grouped_backward_weight',
      inputs: {
        accumulator: tensorType('f32', experts, columns, depth),
        dy,
        x: tensorType('bf16', rows, depth),
        offsets,
      },
    },
  ]
}

/** Both gradients of a product in bf16. */
export const matmulBackwardIn16 = (rows: number, columns: number, depth: number): SpeedCase[] => [
  {
    name: `${rows}x${columns}x${depth}_both_bf16`,
    op: 'matmul_backward_input',
    attrs: { output: 'bf16' },
    inputs: { dy: tensorType('bf16', rows, columns), w: tensorType('bf16', columns, depth) },
  },
  {
    name: `${rows}x${columns}x${depth}_both_bf16`,
    op: 'matmul_backward_weight',
    inputs: {
      accumulator: tensorType('f32', columns, depth),
      dy: tensorType('bf16', rows, columns),
      x: tensorType('bf16', rows, depth),
    },
  },
]

/**
 * Columns and depth of the products of a layer: qkv, attention's output, gate and up (GPT-2: up), down. The last of
 * GPT-2's is its head.
 */
export const LAYERS = {
  '124M': [
    [2304, 768],
    [768, 768],
    [3072, 768],
    [768, 3072],
    [50304, 768],
  ],
  '1B': [
    [3072, 2048],
    [2048, 2048],
    [16384, 2048],
    [2048, 8192],
  ],
  '8B': [
    [6144, 4096],
    [4096, 4096],
    [28672, 4096],
    [4096, 14336],
  ],
} as const

/** Layers of experts, of which each token has so many: of 8 as Mixtral's, and of many narrow ones. */
export const EXPERTS = [
  { experts: 8, ofToken: 2, columns: 14336, depth: 4096 },
  { experts: 64, ofToken: 8, columns: 1408, depth: 2048 },
] as const

export const HEADS = { heads: 32, kv_heads: 8, head_dim: 128 }
export const QKV = (HEADS.heads + 2 * HEADS.kv_heads) * HEADS.head_dim
const SCALE = 1 / Math.sqrt(HEADS.head_dim)
export const dense = { ...HEADS, sequence: 4096, scale: SCALE, causal: true, window: 0, softcap: 0 }

interface Heads {
  readonly heads: number
  readonly kv_heads: number
  readonly head_dim: number
}

interface AttentionShape extends Heads {
  readonly length: number
  readonly format?: 'f16' | 'bf16'
  readonly batch?: number
  /** Keys that a query sees before itself; 0: all. */
  readonly window?: number
  /** Documents of equal length that are packed into each sequence. */
  readonly documents?: number
}

/** Causal attention in 16 bits, and its gradient. */
export function attentionIn16({
  length,
  heads,
  kv_heads,
  head_dim,
  format = 'bf16',
  batch = 1,
  window = 0,
  documents = 0,
}: AttentionShape): SpeedCase[] {
  const scale = 1 / Math.sqrt(head_dim)
  const attrs = { heads, kv_heads, head_dim, sequence: length, scale, causal: true, window, softcap: 0 }
  const masks = `${window ? `_window_${window}` : ''}${documents ? `_documents_${documents}` : ''}`
  const name = `${batch > 1 ? `${batch}x` : ''}${length}_causal${masks}_h${heads}_d${head_dim}_${format}`
  const rows = batch * length
  const qkv = tensorType(format, rows, (heads + 2 * kv_heads) * head_dim)
  const y = tensorType(format, rows, heads * head_dim)
  const packed: Record<string, TensorType> = documents ? { documents: tensorType('u32', rows) } : {}
  const given: Record<string, Uint32Array> = documents
    ? { documents: Uint32Array.from({ length: rows }, (_, i) => Math.floor((i * documents) / length)) }
    : {}
  return [
    { name, op: 'attention', attrs: { ...attrs, output: format }, inputs: { qkv, ...packed }, given },
    {
      name,
      op: 'attention_backward',
      attrs: { ...attrs, output: format },
      inputs: { dy: y, qkv, y, lse: tensorType('f32', rows, heads), ...packed },
      given,
    },
  ]
}

export const GROUPED_64 = { heads: 32, kv_heads: 8, head_dim: 64 }
export const GPT2_HEADS = { heads: 12, kv_heads: 12, head_dim: 64 }

type Cached = 'f32' | 'f16' | 'e4m3'

/** Attention of the last `rows` tokens of each of `batch` sequences that have `context` tokens. */
function overCache(
  name: string,
  { heads, kv_heads, head_dim }: Heads,
  shape: { readonly batch: number; readonly rows: number; readonly context: number },
  formats: { readonly qkv: 'f32' | 'bf16'; readonly kv: Cached },
): SpeedCase {
  const { batch, rows, context } = shape
  const pages = Math.ceil(context / 64)
  const pool = tensorType(formats.kv, batch * pages, kv_heads, 64, head_dim)
  const all = batch * rows
  return {
    name,
    op: 'attention_paged',
    attrs: {
      heads,
      kv_heads,
      head_dim,
      scale: head_dim ** -0.5,
      window: 0,
      softcap: 0,
      ...(formats.qkv === 'bf16' && { output: 'bf16' }),
    },
    inputs: {
      qkv: tensorType(formats.qkv, all, (heads + 2 * kv_heads) * head_dim),
      k_pool: pool,
      v_pool: pool,
      page_table: tensorType('u32', batch, pages),
      sequence: tensorType('u32', all),
      position: tensorType('u32', all),
    },
    given: {
      page_table: Uint32Array.from({ length: batch * pages }, (_, i) => i),
      sequence: Uint32Array.from({ length: all }, (_, i) => Math.floor(i / rows)),
      position: Uint32Array.from({ length: all }, (_, i) => context - rows + (i % rows)),
    },
  }
}

/** Decoding `batch` sequences that have `context` tokens each. */
export const decode = (batch: number, context: number, kv: Cached): SpeedCase =>
  overCache(`decode_${batch}x${context}_${kv}`, HEADS, { batch, rows: 1, context }, { qkv: 'f32', kv })

/** The last `rows` tokens of a prompt of `context`, with activations in 16 bits. */
export const prefill = (rows: number, context: number, heads: Heads, kv: Cached): SpeedCase =>
  overCache(
    `prefill_${rows}of${context}_d${heads.head_dim}_${kv}`,
    heads,
    { batch: 1, rows, context },
    { qkv: 'bf16', kv },
  )

/** Rows as e4m3_128 quantizes an activation or a gradient, along its rows or, transposed, along its columns. */
export const quantizeIn16 = (rows: number, columns: number): SpeedCase[] =>
  [false, true].map((transpose) => ({
    name: `${rows}x${columns}_bf16_to_e4m3_128${transpose ? '_transposed' : ''}`,
    op: 'quantize',
    attrs: { to: 'e4m3_128', ...(transpose ? { transpose } : {}) },
    inputs: { x: tensorType('bf16', rows, columns) },
  }))
