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

/** x and w in blocks of 8 bits with a scale each, y in bf16. */
const matmulIn8 = (rows: number, columns: number, depth: number): SpeedCase => ({
  name: `${rows}x${columns}x${depth}_both_e4m3_128`,
  op: 'matmul',
  attrs: { output: 'bf16' },
  inputs: { x: tensorType('e4m3_128', rows, depth), w: tensorType('e4m3_128', columns, depth) },
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

/** Causal attention of `length` tokens in bf16, 32 heads of `dim` over 8 of keys, and its gradient. */
function attentionIn16(length: number, dim: number): SpeedCase[] {
  const heads = { heads: 32, kv_heads: 8, head_dim: dim }
  const attrs = { ...heads, sequence: length, scale: 1 / Math.sqrt(dim), causal: true, window: 0, softcap: 0 }
  const name = `${length}_causal_d${dim}_bf16`
  const qkv = tensorType('bf16', length, (32 + 2 * 8) * dim)
  const y = tensorType('bf16', length, 32 * dim)
  return [
    { name, op: 'attention', attrs: { ...attrs, output: 'bf16' }, inputs: { qkv } },
    {
      name,
      op: 'attention_backward',
      attrs: { ...attrs, output: 'bf16' },
      inputs: { dy: y, qkv, y, lse: tensorType('f32', length, 32) },
    },
  ]
}

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

export const speedCases: readonly SpeedCase[] = [
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
    matmulIn8(4096, columns, depth),
  ]),
  matmulIn8(4096, 4096, 4096),
  matmulIn8(8192, 8192, 8192),
  // Products of a training step of 32 sequences of 1,024 tokens, and of decoding 64 sequences.
  ...LAYERS['124M'].flatMap(([columns, depth]) => [
    matmulIn16(32768, columns, depth, 'bf16'),
    ...matmulBackwardIn16(32768, columns, depth),
  ]),
  ...LAYERS['8B'].map(([columns, depth]) => matmul(64, columns, depth, 'bf16')),
  ...matmulBackwardIn16(4096, 4096, 4096),
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
  ...[4096, 8192, 16384].flatMap((length) => [...attentionIn16(length, 64), ...attentionIn16(length, 128)]),
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
