import { readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { ExactmapError } from '../errors.ts'
import {
  GGUF_TYPES,
  type GgufTensor,
  type GgufType,
  type GgufValue,
  interleaveQ8,
  writeGguf,
} from '../formats/gguf.ts'
import { ggufTokenizer } from '../formats/gguf_tokenizer.ts'
import { parseJson } from '../formats/json.ts'
import type { ModelFolder } from '../formats/model_folder.ts'
import { type RopeScaling, ropeFrequencies } from '../ops/constants.ts'
import { formatOf } from '../tensor/format.ts'
import { type Gpt2Config, gpt2 } from './gpt2.ts'
import { familyOf } from './index.ts'
import { type LlamaConfig, llama } from './llama.ts'
import type { ParameterSpec } from './model.ts'
import { readParameter } from './weights.ts'

/** llama.cpp's `general.file_type`. */
const FILE_TYPES: Readonly<Record<GgufType, number>> = { f32: 0, f16: 1, q8_0: 7 }

/** Tensor names of Hugging Face (without prefix, layer number and suffix) to GGUF's. */
const NAMES: Readonly<Record<string, string>> = {
  'model.embed_tokens': 'token_embd',
  'model.norm': 'output_norm',
  lm_head: 'output',
  input_layernorm: 'attn_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  post_attention_layernorm: 'ffn_norm',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
  'transformer.wte': 'token_embd',
  'transformer.wpe': 'position_embd',
  'transformer.ln_f': 'output_norm',
  ln_1: 'attn_norm',
  'attn.c_attn': 'attn_qkv',
  'attn.c_proj': 'attn_output',
  ln_2: 'ffn_norm',
  'mlp.c_fc': 'ffn_up',
  'mlp.c_proj': 'ffn_down',
}

export interface GgufExportOptions {
  /** Storage of matrices; vectors are always f32. A row that is no multiple of 32 stays f16 under q8_0. */
  readonly format?: GgufType
}

/**
 * Writes a model folder as a GGUF file that llama.cpp loads: the GPT-2 and Llama families (Llama, Mistral, Qwen2)
 * with a byte-level BPE tokenizer. Reads, converts and writes one tensor at a time.
 *
 * @throws ExactmapError `unsupported` (names what llama.cpp's architecture can't express), `not_found`
 *   (tokenizer.json, a tensor), `invalid_config`, `invalid_format`, `invalid_shape`, `io`
 */
export async function exportGguf(
  folder: ModelFolder,
  path: string,
  options: GgufExportOptions = {},
): Promise<void> {
  const format = options.format ?? 'f16'
  const family = familyOf(folder.config)
  const { tokenizer, tokenizerConfig } = folder.files
  if (!tokenizer)
    throw new ExactmapError('not_found', 'GGUF needs the tokenizer, the folder has no tokenizer.json', {
      file: folder.path,
    })
  let architecture: Architecture
  if (family.name === llama.name) architecture = llamaArchitecture(llama.parse(folder.config))
  else if (family.name === gpt2.name) architecture = gpt2Architecture(gpt2.parse(folder.config))
  else
    throw new ExactmapError(
      'unsupported',
      `GGUF export knows the families llama and gpt2, not '${family.name}'`,
    )
  const { name, vocab, metadata, parameters, heads, extra } = architecture

  const settings = tokenizerConfig && parseJson(await readFile(tokenizerConfig), tokenizerConfig)
  const names = new Set(folder.weights.names())
  const tensors = parameters.flatMap((spec) =>
    spec.from.map((source): GgufTensor => {
      // One source at a time: GGUF keeps q, k and v apart, and this bounds what is in memory.
      const one: ParameterSpec = { ...spec, shape: [source.rows, ...spec.shape.slice(1)], from: [source] }
      const target = targetName(source.name)
      const type = typeOf(target, one.shape, format)
      return {
        name: target,
        type,
        shape: one.shape,
        async *bytes() {
          const values = await readParameter(one, folder.weights, names)
          const count = heads(target)
          yield encode(count === undefined ? values : pairUp(values, source.rows, count), type)
        },
      }
    }),
  )
  await writeGguf(path, {
    metadata: {
      'general.architecture': { type: 'string', value: name },
      'general.name': { type: 'string', value: basename(folder.path) },
      'general.file_type': { type: 'u32', value: FILE_TYPES[format] },
      'general.quantization_version': { type: 'u32', value: 2 },
      ...Object.fromEntries(Object.entries(metadata).map(([key, value]) => [`${name}.${key}`, value])),
      ...ggufTokenizer(await readFile(tokenizer), settings, vocab),
    },
    tensors: [...tensors, ...extra],
  })
}

interface Architecture {
  readonly name: string
  readonly vocab: number
  readonly metadata: Readonly<Record<string, GgufValue>>
  readonly parameters: readonly ParameterSpec[]
  /** Heads of a tensor whose rows are rotated, else undefined. */
  heads(target: string): number | undefined
  readonly extra: readonly GgufTensor[]
}

const u32 = (value: number): GgufValue => ({ type: 'u32', value })
const f32 = (value: number): GgufValue => ({ type: 'f32', value })

function llamaArchitecture(c: LlamaConfig): Architecture {
  const { heads, kv_heads, head_dim, window } = c.attention
  const refuse = (what: string): never => {
    throw new ExactmapError('unsupported', `GGUF export: llama.cpp's architecture 'llama' has no ${what}`)
  }
  if (window > 0 && window < c.context) refuse(`sliding window (config.json: ${window})`)
  if (c.gate !== 'swiglu') refuse(`${c.gate} (config.json: hidden_act)`)
  const scaling = c.rope.scaling as RopeScaling
  const extra: GgufTensor[] = []
  if (scaling?.kind === 'llama3') {
    // llama.cpp divides the frequency of each pair by its factor in this tensor.
    const plain = ropeFrequencies({ rotary_dim: head_dim, base: c.rope.base, scaling: null })
    const scaled = ropeFrequencies({ rotary_dim: head_dim, base: c.rope.base, scaling })
    const factors = formatOf('f32').encode(plain.map((frequency, i) => frequency / scaled[i]!))
    extra.push({ name: 'rope_freqs.weight', type: 'f32', shape: [head_dim / 2], bytes: factors })
  }
  return {
    name: 'llama',
    vocab: c.vocab,
    parameters: llama.parameters(c),
    extra,
    heads: (target) => (/attn_q\./.test(target) ? heads : /attn_k\./.test(target) ? kv_heads : undefined),
    metadata: {
      vocab_size: u32(c.vocab),
      context_length: u32(c.context),
      embedding_length: u32(c.width),
      feed_forward_length: u32(c.ffn),
      block_count: u32(c.layers),
      'attention.head_count': u32(heads),
      'attention.head_count_kv': u32(kv_heads),
      'attention.key_length': u32(head_dim),
      'attention.value_length': u32(head_dim),
      'attention.layer_norm_rms_epsilon': f32(c.eps),
      'rope.dimension_count': u32(head_dim),
      'rope.freq_base': f32(c.rope.base),
      ...(scaling?.kind === 'linear'
        ? {
            'rope.scaling.type': { type: 'string', value: 'linear' },
            'rope.scaling.factor': f32(scaling.factor),
          }
        : {}),
    },
  }
}

function gpt2Architecture(c: Gpt2Config): Architecture {
  return {
    name: 'gpt2',
    vocab: c.vocab,
    parameters: gpt2.parameters(c),
    extra: [],
    heads: () => undefined,
    metadata: {
      context_length: u32(c.context),
      embedding_length: u32(c.width),
      feed_forward_length: u32(c.ffn),
      block_count: u32(c.layers),
      'attention.head_count': u32(c.attention.heads),
      'attention.layer_norm_epsilon': f32(c.eps),
    },
  }
}

function targetName(name: string): string {
  const [, layer, stem, suffix] =
    /^(?:model\.layers\.|transformer\.h\.)?(?:(\d+)\.)?(.+)\.(weight|bias)$/.exec(name) ?? []
  const target = NAMES[stem ?? '']
  if (target === undefined)
    throw new ExactmapError('internal', `GGUF export has no name for the parameter '${name}'`)
  return `${layer === undefined ? '' : `blk.${layer}.`}${target}.${suffix}`
}

/** Positions are added to f32 activations: as the converter of llama.cpp, they stay f32. */
function typeOf(target: string, shape: readonly number[], format: GgufType): GgufType {
  if (shape.length < 2 || target === 'position_embd.weight') return 'f32'
  return shape.at(-1)! % GGUF_TYPES[format].elements === 0 ? format : 'f16'
}

function encode(values: Float32Array, type: GgufType): Uint8Array {
  const bytes = formatOf(type).encode(values)
  const { elements, bytes: size } = GGUF_TYPES[type]
  const blocks = values.length / elements
  // Our buffers are padded to 4 bytes, GGUF's are not.
  return type === 'q8_0' ? interleaveQ8(bytes, blocks) : bytes.subarray(0, blocks * size)
}

/**
 * Reorders the rows of each head from halves to neighbours.
 *
 * Hugging Face rotates row i of a head with row i + D/2; llama.cpp's architecture `llama` rotates row 2i with row
 * 2i + 1. So row 2i of the result is row i of the first half, row 2i + 1 is row i of the second half. Queries and
 * keys move alike, so their products stay the same.
 */
function pairUp(values: Float32Array, rows: number, heads: number): Float32Array {
  const width = values.length / rows
  const dim = rows / heads
  const out = new Float32Array(values.length)
  for (let row = 0; row < rows; row++) {
    const [head, at] = [Math.floor(row / dim), row % dim]
    const from = head * dim + (at % 2) * (dim / 2) + Math.floor(at / 2)
    out.set(values.subarray(from * width, (from + 1) * width), row * width)
  }
  return out
}
