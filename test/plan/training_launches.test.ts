import { expect, it } from 'vitest'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { familyOf } from '../../src/models/index.ts'
import type { RecipeName } from '../../src/program/recipe.ts'
import { trainSchema } from '../../src/train/config.ts'
import { trainingProgram } from '../../src/train/trainer.ts'

// How many launches a layer costs in training, by segment; docs/training.md has the Llama's.
const target = cudaTarget(cudaTraits['cuda-sm_90a']!, readCudaSources())
const layer = {
  llama: (layers: number) => ({
    architectures: ['LlamaForCausalLM'],
    hidden_size: 2048,
    intermediate_size: 8192,
    num_hidden_layers: layers,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    vocab_size: 4096,
    max_position_embeddings: 1024,
    rms_norm_eps: 1e-5,
  }),
  gpt2: (layers: number) => ({
    architectures: ['GPT2LMHeadModel'],
    n_embd: 2048,
    n_layer: layers,
    n_head: 32,
    vocab_size: 4096,
    n_positions: 1024,
  }),
}

/** Launches of each segment that one layer more adds, and of those around layers that updates take. */
function launches(model: keyof typeof layer, recipe: RecipeName): Record<string, number> {
  const [two, three] = [2, 3].map((layers) => {
    const config = layer[model](layers)
    const family = familyOf(config)
    const run = { output: '-', model: { config }, data: { files: ['-'] }, steps: 1, batch: 4, sequence: 1024 }
    const { program } = trainingProgram(
      target,
      family,
      family.parse(config),
      trainSchema.parse({ ...run, recipe }),
    )
    return new Map(program.segments.map(({ name, steps }) => [name, steps.length]))
  }) as [Map<string, number>, Map<string, number>]
  const passes = ['forward', 'backward_input', 'backward_weight', 'publish']
  return {
    ...Object.fromEntries(passes.map((name) => [name, (three.get(name) ?? 0) - (two.get(name) ?? 0)])),
    optimizer: two.get('optimizer')!,
  }
}

it.each([
  ['llama', 'f32', [9, 10, 8, 0, 1]],
  ['llama', 'bf16', [9, 11, 8, 4, 1]],
  ['llama', 'fp8', [17, 19, 8, 8, 1]],
  // A bias is a sum over rows in two launches; those of norms are part of their weights'.
  ['gpt2', 'bf16', [8, 10, 16, 4, 1]],
] as const)('%s in %s', (model, recipe, expected) => {
  expect(Object.values(launches(model, recipe))).toEqual(expected)
})
