import { mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { writeSafetensors } from '../../src/formats/node_file.ts'
import { familyOf } from '../../src/models/index.ts'
import { checkpointTensors } from '../../src/models/weights.ts'
import { seedOf } from '../../src/ops/cases.ts'
import { formatOf } from '../../src/tensor/format.ts'
import { Philox } from '../../src/tensor/philox.ts'
import { elementCount, lastDim } from '../../src/tensor/type.ts'
import { trainBpe } from '../../src/train/tokenizer_training.ts'

/** An original text of 28 KB that the tests tokenize and learn from. */
export const FABLES = fileURLToPath(new URL('../data/fables.txt', import.meta.url))
export const VOCABULARY = 300

const llama = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  vocab_size: VOCABULARY,
  hidden_size: 64,
  intermediate_size: 176,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 256,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: false,
}

/**
 * config.json of each tiny model. Between them: grouped queries, tied and untied heads, biases, stretched and
 * plain rotary positions, a window shorter than the test prompts, learned positions with layer norm.
 */
export const tinyConfigs = {
  llama,
  qwen2: {
    ...llama,
    architectures: ['Qwen2ForCausalLM'],
    model_type: 'qwen2',
    tie_word_embeddings: true,
    // With 8 pairs per head, these bounds leave some frequencies alone, stretch some in part and some in full.
    rope_scaling: {
      rope_type: 'llama3',
      factor: 4,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 64,
    },
  },
  mistral: { ...llama, architectures: ['MistralForCausalLM'], model_type: 'mistral', sliding_window: 16 },
  gpt2: {
    architectures: ['GPT2LMHeadModel'],
    model_type: 'gpt2',
    vocab_size: VOCABULARY,
    n_embd: 64,
    n_layer: 2,
    n_head: 4,
    n_positions: 256,
    layer_norm_epsilon: 1e-5,
  },
} as const

/** Two layers of width 256 with heads of 64 (`heads` 4) or 128 (2). */
export const wideConfig = (heads: 2 | 4) => ({
  ...llama,
  hidden_size: 256,
  intermediate_size: 512,
  num_attention_heads: heads,
  num_key_value_heads: heads / 2,
})

export type TinyName = keyof typeof tinyConfigs

/**
 * Writes a model folder with weights that depend on `seed` and the parameter names only, and a tokenizer trained
 * on the fables.
 *
 * Matrices keep the scale of what they multiply (standard deviation 1 / sqrt(columns)), embeddings have 0.5 so
 * that logits spread over several units, norm weights lie around 1 and no bias is zero: nothing that a mistake
 * could hide behind.
 */
export async function writeModelFolder(folder: string, config: object, seed = 1): Promise<string> {
  const family = familyOf(config)
  const tensors = family.parameters(family.parse(config)).flatMap((spec) => {
    const random = new Philox(seed, seedOf(spec.name))
    const isEmbedding = /^(embed|positions|head)\./.test(spec.name)
    const std = isEmbedding ? 0.5 : spec.shape.length > 1 ? 1 / Math.sqrt(lastDim(spec.shape)) : 0.2
    const middle = spec.init === 'ones' ? 1 : 0
    const values = Float32Array.from(
      { length: elementCount(spec.shape) },
      () => middle + std * random.normal(),
    )
    return checkpointTensors(spec, values).map((t) => ({
      name: t.name,
      dtype: 'F32',
      shape: t.shape,
      bytes: formatOf('f32').encode(t.values),
    }))
  })
  await mkdir(folder, { recursive: true })
  await writeSafetensors(join(folder, 'model.safetensors'), tensors, { format: 'pt' })
  await writeFile(join(folder, 'config.json'), JSON.stringify(config))
  await writeFile(join(folder, 'tokenizer.json'), await fablesTokenizer())
  return folder
}

let tokenizerText: string | undefined
export async function fablesTokenizer(): Promise<string> {
  tokenizerText ??= JSON.stringify(trainBpe([await readFile(FABLES, 'utf8')], { vocabSize: VOCABULARY }))
  return tokenizerText
}

export const temporaryFolder = (): Promise<string> => mkdtemp(join(tmpdir(), 'exactmap-models-'))
