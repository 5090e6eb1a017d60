import { adamwHyper } from '../../src/ops/adamw.ts'
import { constantType, generateConstant } from '../../src/ops/constants.ts'
import { weightFormats } from '../../src/tensor/format.ts'
import { tensorType } from '../../src/tensor/type.ts'
import type { SpeedCase } from '../../src/verify/cuda_cases.ts'
import {
  attentionIn16,
  decode,
  dense,
  EXPERTS,
  GPT2_HEADS,
  GROUPED_64,
  HEADS,
  LAYERS,
  matmul,
  matmulBackwardIn16,
  matmulGrouped,
  matmulGroupedBackward,
  matmulIn16,
  matmulInBlocks,
  matmulOfQuants,
  prefill,
  QKV,
  quantizeIn16,
} from './speed_shapes.ts'

/**
 * What is timed, in the order of what is worth most when time is short. Data is several times a GPU's L2 cache (50 MB)
 * where memory is the limit, but for the smallest weights, which run from it when they are repeated: compare those with
 * peers, not with bandwidth.
 */

const layers = [...LAYERS['1B'], ...LAYERS['8B']]
const attentions = [4096, 8192, 16384].flatMap((length) =>
  [GROUPED_64, HEADS].flatMap((heads) => attentionIn16({ length, ...heads })),
)

/** What the goals are about: products in bf16 and fp8, attention forward and backward. */
const goals: readonly SpeedCase[] = [
  // The ceiling of memory: bytes read and written.
  { name: '1GiB', op: 'copy', inputs: { x: tensorType('f32', 2 ** 27) } },
  matmulIn16(8192, 8192, 8192, 'bf16'),
  matmulInBlocks(8192, 8192, 8192),
  ...attentions.filter(({ op }) => op === 'attention'),
  ...layers.map(([columns, depth]) => matmulIn16(4096, columns, depth, 'bf16')),
  ...attentions.filter(({ op }) => op === 'attention_backward'),
  ...layers.map(([columns, depth]) => matmulInBlocks(4096, columns, depth)),
]

/** Products and attention of decoding so many sequences of an 8B model. */
const decoding: readonly SpeedCase[] = [
  ...[1, 64, 16, 4, 32, 8, 2].flatMap((rows) =>
    LAYERS['8B'].flatMap(([columns, depth]) =>
      (['bf16', 'q4_0', 'e4m3_128', 'q8_0'] as const).map((format) => matmul(rows, columns, depth, format)),
    ),
  ),
  // With activations in bf16: batches, and a prompt.
  ...[64, 16, 512].flatMap((rows) =>
    LAYERS['8B'].flatMap(([columns, depth]) => [
      matmulIn16(rows, columns, depth, 'bf16'),
      ...(['q4_0', 'e4m3_128', 'q8_0'] as const).map((format) =>
        matmulOfQuants(rows, columns, depth, format),
      ),
    ]),
  ),
  ...[1, 64, 16].flatMap((batch) =>
    [4096, 512, 16384].flatMap((context) =>
      (['f16', 'e4m3'] as const).map((kv) => decode(batch, context, kv)),
    ),
  ),
  decode(1, 32768, 'f16'),
  ...EXPERTS.flatMap((layer) =>
    (['bf16', 'e4m3_128'] as const).map((format) =>
      matmulGrouped({ ...layer, rows: 64 * layer.ofToken }, format),
    ),
  ),
]

/** Products of training steps, their gradients, and what lies between them. */
const training: readonly SpeedCase[] = [
  // 32 sequences of 1,024 tokens.
  ...LAYERS['124M'].flatMap(([columns, depth]) => [
    matmulIn16(32768, columns, depth, 'bf16'),
    ...matmulBackwardIn16(32768, columns, depth),
  ]),
  ...attentionIn16({ length: 1024, ...GPT2_HEADS, batch: 32 }),
  ...layers.flatMap(([columns, depth]) => [
    ...matmulBackwardIn16(4096, columns, depth),
    // What the recipe fp8 makes of a product's two gradients.
    ...(columns === depth ? [] : [matmulInBlocks(4096, depth, columns)]),
    matmulInBlocks(columns, depth, 4096),
  ]),
  // Heads of 1B and 8B models.
  ...[2048, 4096].flatMap((depth) => [
    matmulIn16(4096, 128256, depth, 'bf16'),
    ...matmulBackwardIn16(4096, 128256, depth),
  ]),
  ...quantizeIn16(4096, 4096),
  ...quantizeIn16(32768, 768),
  // A window as Mistral's, and a pack of documents.
  ...attentionIn16({ length: 16384, ...HEADS, window: 4096 }),
  ...attentionIn16({ length: 16384, ...HEADS, documents: 16 }),
  ...EXPERTS.flatMap((layer) => {
    const shape = { ...layer, rows: 8192 }
    return [matmulGrouped(shape, 'bf16'), ...matmulGroupedBackward(shape), matmulGrouped(shape, 'e4m3_128')]
  }),
]

/** Tiles of one tensor of 128M elements. */
const wholeRange = { tensors: [[0, 2 ** 27]] }

/** Other formats, and ops whose limit is memory. */
const others: readonly SpeedCase[] = [
  ...weightFormats.map((format) => matmul(1, 14336, 4096, format)),
  ...weightFormats.map((format) => matmul(4, 14336, 4096, format)),
  ...weightFormats.map((format) => matmul(512, 4096, 4096, format)),
  ...weightFormats.map((format) => matmul(4096, 4096, 4096, format)),
  matmulIn16(4096, 4096, 4096, 'f16'),
  matmulIn16(512, 2048, 2048, 'bf16'),
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
  ...attentionIn16({ length: 8192, ...HEADS, format: 'f16' }),
  ...attentionIn16({ length: 8192, ...GROUPED_64, format: 'f16' }),
  // Heads with keys of their own, which no two blocks can share.
  ...(['bf16', 'f16'] as const).flatMap((format) =>
    [64, 128].flatMap((head_dim) =>
      attentionIn16({ length: 8192, heads: 16, kv_heads: 16, head_dim, format }).slice(0, 1),
    ),
  ),
  decode(32, 4096, 'f16'),
  decode(32, 4096, 'e4m3'),
  ...[HEADS, GROUPED_64].flatMap((heads) =>
    (['f16', 'e4m3'] as const).flatMap((kv) => [
      prefill(2048, 2048, heads, kv),
      prefill(128, 2048, heads, kv),
    ]),
  ),
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
  // Formats of Blackwell; other GPUs read them as numbers.
  ...(['mxfp8', 'nvfp4'] as const).flatMap((format) => [
    matmulInBlocks(4096, 4096, 4096, format),
    matmulInBlocks(4096, 28672, 4096, format),
    matmulInBlocks(8192, 8192, 8192, format),
  ]),
  ...[64, 128].flatMap((rows) =>
    LAYERS['8B'].map(([columns, depth]) => matmulInBlocks(rows, columns, depth, 'nvfp4')),
  ),
]

/** Every case once, where it comes first: square products of a layer are their own gradients' too. */
export const speedCases: readonly SpeedCase[] = [
  ...new Map(
    [...goals, ...decoding, ...training, ...others].map((one) => [`${one.op}/${one.name}`, one]),
  ).values(),
]

/** Sizes that the emulated device runs, to try the way from here to a record. */
export const rehearsedCases: readonly SpeedCase[] = [
  matmulIn16(128, 128, 128, 'bf16'),
  matmul(4, 256, 128, 'q8_0'),
  ...quantizeIn16(128, 128),
]

/** Ops whose stored vectors go with them. */
export const rehearsedOps: readonly string[] = ['add', 'quantize', 'rms_norm', 'softmax']
