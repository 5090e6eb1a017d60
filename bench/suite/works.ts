/** What is measured, as data that every engine reads the same way. Inputs are made by formula (inputs.ts). */

/** A Llama of 100.7M weights, vocabulary apart from head, as small as a model gets that does not fit a CPU's caches. */
export const LLAMA_100M = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: 768,
  intermediate_size: 2048,
  num_hidden_layers: 12,
  num_attention_heads: 12,
  num_key_value_heads: 4,
  max_position_embeddings: 512,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: false,
  vocab_size: 16384,
  torch_dtype: 'float16',
} as const

export type WeightFormat = 'f32' | 'f16' | 'q8_0' | 'q4_0'

export type Work =
  /** y[rows, columns] = x[rows, depth] w[columns, depth]^T; x f32; w is constant: an engine may lay it out as it likes. */
  | {
      readonly kind: 'matmul'
      readonly rows: number
      readonly depth: number
      readonly columns: number
      readonly weights: WeightFormat
    }
  /** y = x / sqrt(mean(x^2) + 1e-5) * weight, by row. */
  | { readonly kind: 'rms_norm'; readonly rows: number; readonly width: number }
  /** Softmax of every row. */
  | { readonly kind: 'softmax'; readonly rows: number; readonly width: number }
  /** One query row against `context` keys and values in a cache on the device (f32), grouped queries, scale head_dim^-0.5. */
  | {
      readonly kind: 'attention_decode'
      readonly context: number
      readonly heads: number
      readonly kv_heads: number
      readonly head_dim: number
    }
  /** Greedy decoding of LLAMA_100M after a prompt of `prompt` tokens, batch 1: time per token. */
  | { readonly kind: 'decode'; readonly weights: 'f16' | 'q8_0'; readonly prompt: number }
  /** A whole training step of the bundled model: forward, backward, gradient norm, AdamW, loss read back. */
  | { readonly kind: 'train_step'; readonly batch: number; readonly sequence: number }
  /** The bundled model from the command line to its first token: the first time on a machine, or later. */
  | { readonly kind: 'startup'; readonly caches: 'empty' | 'filled' }

const matmul = (rows: number, depth: number, columns: number, weights: WeightFormat = 'f32'): Work => ({
  kind: 'matmul',
  rows,
  depth,
  columns,
  weights,
})

const { hidden_size: width, intermediate_size: ffn, num_key_value_heads: kv, vocab_size } = LLAMA_100M
const attention = { heads: LLAMA_100M.num_attention_heads, kv_heads: kv, head_dim: 64 }

/** Suites by name: what `npm run bench -- <name>` measures. */
export const suites = {
  kernels: [
    matmul(512, 512, 512),
    matmul(1024, 1024, 1024),
    // Prefill of 64 rows through LLAMA_100M: qkv, attention output, gate and up, down.
    matmul(64, width, width + 2 * kv * 64),
    matmul(64, width, width),
    matmul(64, width, 2 * ffn),
    matmul(64, ffn, width),
    matmul(1, 4096, 4096),
    matmul(1, 4096, 4096, 'f16'),
    matmul(1, 4096, 4096, 'q8_0'),
    matmul(1, 4096, 4096, 'q4_0'),
    { kind: 'rms_norm', rows: 256, width },
    { kind: 'softmax', rows: 64, width: vocab_size },
    { kind: 'attention_decode', context: 1024, ...attention },
    { kind: 'attention_decode', context: 4096, ...attention },
  ],
  decode: [
    { kind: 'decode', weights: 'f16', prompt: 32 },
    { kind: 'decode', weights: 'q8_0', prompt: 32 },
  ],
  train: [{ kind: 'train_step', batch: 8, sequence: 256 }],
  startup: [
    { kind: 'startup', caches: 'empty' },
    { kind: 'startup', caches: 'filled' },
  ],
} as const satisfies Record<string, readonly Work[]>

export function nameOf(work: Work): string {
  switch (work.kind) {
    case 'matmul':
      return `matmul ${work.rows} x ${work.depth} x ${work.columns}, ${work.weights}`
    case 'rms_norm':
    case 'softmax':
      return `${work.kind} ${work.rows} x ${work.width}`
    case 'attention_decode':
      return `attention of 1 query, ${work.context} keys, ${work.heads}/${work.kv_heads} heads of ${work.head_dim}`
    case 'decode':
      return `decode of a 100M Llama, ${work.weights}`
    case 'train_step':
      return `training step of the bundled model, ${work.batch} x ${work.sequence} tokens`
    case 'startup':
      return `start to first token of the bundled model, ${work.caches} caches`
  }
}

/** Bytes of a weight: q8_0 and q4_0 are blocks of 32 with an f16 scale. */
const weightBytes: Readonly<Record<WeightFormat, number>> = { f32: 4, f16: 2, q8_0: 34 / 32, q4_0: 18 / 32 }

/** Least amount of arithmetic and of bytes moved; undefined where a rate would say nothing. */
export function amountOf(work: Work): { readonly flops: number; readonly bytes: number } | undefined {
  switch (work.kind) {
    case 'matmul': {
      const { rows, depth, columns, weights } = work
      return {
        flops: 2 * rows * depth * columns,
        bytes: 4 * rows * (depth + columns) + depth * columns * weightBytes[weights],
      }
    }
    case 'rms_norm':
      return { flops: 4 * work.rows * work.width, bytes: 8 * work.rows * work.width }
    case 'softmax':
      return { flops: 4 * work.rows * work.width, bytes: 8 * work.rows * work.width }
    case 'attention_decode':
      return {
        flops: 4 * work.context * work.heads * work.head_dim,
        bytes: 8 * work.context * work.kv_heads * work.head_dim,
      }
    default:
      return undefined
  }
}
