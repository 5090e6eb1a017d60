import { adamwHyper } from '../../src/ops/adamw.ts'
import { constantType, generateConstant } from '../../src/ops/constants.ts'
import { type FormatName, weightFormats } from '../../src/tensor/format.ts'
import { tensorType } from '../../src/tensor/type.ts'
import type { SpeedCase } from '../../src/verify/cuda_cases.ts'

/**
 * Sizes of 1B and 8B models. Data is several times a GPU's L2 cache (50 MB) where memory is the limit, but for the
 * smallest weights, which run from it when they are repeated: compare those with peers, not with bandwidth.
 */
const matmul = (rows: number, columns: number, depth: number, format: FormatName): SpeedCase => ({
  name: `${rows}x${columns}x${depth}_${format}`,
  op: 'matmul',
  inputs: { x: tensorType('f32', rows, depth), w: tensorType(format, columns, depth) },
})

/** All three in 16 bits, as activations between two products are. */
const matmulIn16 = (rows: number, columns: number, depth: number, format: 'f16' | 'bf16'): SpeedCase => ({
  name: `${rows}x${columns}x${depth}_both_${format}`,
  op: 'matmul',
  attrs: { output: format },
  inputs: { x: tensorType(format, rows, depth), w: tensorType(format, columns, depth) },
})

/** x and w in blocks with a scale each, y in bf16. */
const matmulInBlocks = (
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

/** Rows dealt out evenly to experts, in bf16. */
const matmulGrouped = (rows: number, experts: number, columns: number, depth: number): SpeedCase => ({
  name: `${rows}x${columns}x${depth}_${experts}_experts_bf16`,
  op: 'matmul_grouped',
  attrs: { output: 'bf16' },
  inputs: {
    x: tensorType('bf16', rows, depth),
    offsets: tensorType('u32', experts + 1),
    w: tensorType('bf16', experts, columns, depth),
  },
  given: { offsets: Uint32Array.from({ length: experts + 1 }, (_, e) => (rows / experts) * e) },
})

/** Both gradients of a product in bf16. */
const matmulBackwardIn16 = (rows: number, columns: number, depth: number): SpeedCase[] => [
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
const LAYERS = {
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

const HEADS = { heads: 32, kv_heads: 8, head_dim: 128 }
const QKV = (HEADS.heads + 2 * HEADS.kv_heads) * HEADS.head_dim
const SCALE = 1 / Math.sqrt(HEADS.head_dim)
const dense = { ...HEADS, sequence: 4096, scale: SCALE, causal: true, window: 0, softcap: 0 }

interface Heads {
  readonly heads: number
  readonly kv_heads: number
  readonly head_dim: number
}

/** Causal attention of `batch` sequences of `length` tokens in 16 bits, and its gradient. */
function attentionIn16(
  length: number,
  { heads, kv_heads, head_dim }: Heads,
  format: 'f16' | 'bf16' = 'bf16',
  batch = 1,
): SpeedCase[] {
  const scale = 1 / Math.sqrt(head_dim)
  const attrs = { heads, kv_heads, head_dim, sequence: length, scale, causal: true, window: 0, softcap: 0 }
  const name = `${batch > 1 ? `${batch}x` : ''}${length}_causal_h${heads}_d${head_dim}_${format}`
  const rows = batch * length
  const qkv = tensorType(format, rows, (heads + 2 * kv_heads) * head_dim)
  const y = tensorType(format, rows, heads * head_dim)
  return [
    { name, op: 'attention', attrs: { ...attrs, output: format }, inputs: { qkv } },
    {
      name,
      op: 'attention_backward',
      attrs: { ...attrs, output: format },
      inputs: { dy: y, qkv, y, lse: tensorType('f32', rows, heads) },
    },
  ]
}

const GROUPED_64 = { heads: 32, kv_heads: 8, head_dim: 64 }
const GPT2_HEADS = { heads: 12, kv_heads: 12, head_dim: 64 }

/** Tiles of one tensor of 128M elements. */
const wholeRange = { tensors: [[0, 2 ** 27]] }

/** Decoding `batch` sequences that have `context` tokens each. */
function decode(batch: number, context: number, kv: 'f32' | 'f16' | 'e4m3'): SpeedCase {
  const pages = context / 64
  const pool = tensorType(kv, batch * pages, HEADS.kv_heads, 64, HEADS.head_dim)
  return {
    name: `decode_${batch}x${context}_${kv}`,
    op: 'attention_paged',
    attrs: { ...HEADS, scale: SCALE, window: 0, softcap: 0 },
    inputs: {
      qkv: tensorType('f32', batch, QKV),
      k_pool: pool,
      v_pool: pool,
      page_table: tensorType('u32', batch, pages),
      sequence: tensorType('u32', batch),
      position: tensorType('u32', batch),
    },
    given: {
      page_table: Uint32Array.from({ length: batch * pages }, (_, i) => i),
      sequence: Uint32Array.from({ length: batch }, (_, i) => i),
      position: new Uint32Array(batch).fill(context - 1),
    },
  }
}

const cases: readonly SpeedCase[] = [
  // The ceiling of memory: bytes read and written.
  { name: '1GiB', op: 'copy', inputs: { x: tensorType('f32', 2 ** 27) } },
  ...weightFormats.map((format) => matmul(1, 14336, 4096, format)),
  ...weightFormats.map((format) => matmul(4, 14336, 4096, format)),
  ...weightFormats.map((format) => matmul(512, 4096, 4096, format)),
  ...weightFormats.map((format) => matmul(4096, 4096, 4096, format)),
  matmulIn16(8192, 8192, 8192, 'bf16'),
  matmulIn16(4096, 4096, 4096, 'f16'),
  ...[...LAYERS['1B'], ...LAYERS['8B']].flatMap(([columns, depth]) => [
    matmulIn16(4096, columns, depth, 'bf16'),
    ...matmulBackwardIn16(4096, columns, depth),
    // What the recipe fp8 makes of a product and its two gradients.
    matmulInBlocks(4096, columns, depth),
    ...(columns === depth ? [] : [matmulInBlocks(4096, depth, columns)]),
    matmulInBlocks(columns, depth, 4096),
  ]),
  // Heads of 1B and 8B models.
  ...[2048, 4096].flatMap((depth) => [
    matmulIn16(4096, 128256, depth, 'bf16'),
    ...matmulBackwardIn16(4096, 128256, depth),
  ]),
  matmulInBlocks(8192, 8192, 8192),
  // Formats of Blackwell; other GPUs read them as numbers.
  ...(['mxfp8', 'nvfp4'] as const).flatMap((format) => [
    matmulInBlocks(4096, 4096, 4096, format),
    matmulInBlocks(4096, 28672, 4096, format),
    matmulInBlocks(8192, 8192, 8192, format),
  ]),
  matmulIn16(512, 2048, 2048, 'bf16'),
  // A layer of experts: of 8, as Mixtral's, and of many narrow ones.
  matmulGrouped(8192, 8, 14336, 4096),
  matmulGrouped(8192, 64, 1408, 2048),
  // Products of a training step of 32 sequences of 1,024 tokens, and of decoding 64 sequences.
  ...LAYERS['124M'].flatMap(([columns, depth]) => [
    matmulIn16(32768, columns, depth, 'bf16'),
    ...matmulBackwardIn16(32768, columns, depth),
  ]),
  ...LAYERS['8B'].map(([columns, depth]) => matmul(64, columns, depth, 'bf16')),
  {
    name: '4096x4096x4096_bf16',
    op: 'matmul_backward_input',
    inputs: { dy: tensorType('f32', 4096, 4096), w: tensorType('bf16', 4096, 4096) },
  },
  {
    name: '4096x4096x4096',
    op: 'matmul_backward_weight',
    inputs: {
      accumulator: tensorType('f32', 4096, 4096),
      dy: tensorType('f32', 4096, 4096),
      x: tensorType('f32', 4096, 4096),
    },
  },
  { name: '4096_causal', op: 'attention', attrs: dense, inputs: { qkv: tensorType('f32', 4096, QKV) } },
  {
    name: '4096_causal',
    op: 'attention_backward',
    attrs: dense,
    inputs: {
      dy: tensorType('f32', 4096, HEADS.heads * HEADS.head_dim),
      qkv: tensorType('f32', 4096, QKV),
      y: tensorType('f32', 4096, HEADS.heads * HEADS.head_dim),
      lse: tensorType('f32', 4096, HEADS.heads),
    },
  },
  ...[4096, 8192, 16384].flatMap((length) => [
    ...attentionIn16(length, GROUPED_64),
    ...attentionIn16(length, HEADS),
  ]),
  ...attentionIn16(8192, HEADS, 'f16'),
  ...attentionIn16(8192, GROUPED_64, 'f16'),
  ...attentionIn16(1024, GPT2_HEADS, 'bf16', 32),
  decode(1, 4096, 'f16'),
  decode(1, 32768, 'f16'),
  decode(32, 4096, 'f16'),
  decode(32, 4096, 'e4m3'),
  {
    name: '8192x4096',
    op: 'rms_norm',
    attrs: { eps: 1e-5 },
    inputs: { x: tensorType('f32', 8192, 4096), weight: tensorType('f32', 4096) },
  },
  { name: '2048x32768', op: 'softmax', inputs: { x: tensorType('f32', 2048, 32768) } },
  { name: '4096x28672', op: 'swiglu', inputs: { x: tensorType('f32', 4096, 28672) } },
  {
    name: '128M',
    op: 'square_sums',
    inputs: { x: tensorType('f32', 2 ** 27), tiles: constantType('norm_tiles', wholeRange) },
    given: { tiles: Uint32Array.from(generateConstant('norm_tiles', wholeRange).values) },
  },
  {
    name: '128M',
    op: 'adamw',
    inputs: {
      param: tensorType('f32', 2 ** 27),
      moment1: tensorType('f32', 2 ** 27),
      moment2: tensorType('f32', 2 ** 27),
      gradient: tensorType('f32', 2 ** 27),
      hyper: tensorType('f32', 8),
    },
    given: {
      hyper: Float32Array.from(adamwHyper(1e-3, 0.9, 0.95, 1e-8, 0.1, 10)),
    },
  },
]

/** Every case once: square products of a layer are their own gradients' too. */
export const speedCases: readonly SpeedCase[] = [
  ...new Map(cases.map((one) => [`${one.op}/${one.name}`, one])).values(),
]
