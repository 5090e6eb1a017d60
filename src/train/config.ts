import { parse as parseYaml } from 'yaml'
import { z } from 'zod'
import { ExactmapError } from '../errors.ts'
import { type RecipeName, recipes } from '../program/recipe.ts'

const count = z.number().int().positive()
const fraction = z.number().min(0).max(1)

const modelSchema = z.union([
  z.strictObject({ /** Continue from this model folder. */ from: z.string() }),
  z.strictObject({
    /** Fields of a Hugging Face config.json; `architectures` chooses the family. */ config: z.record(
      z.string(),
      z.unknown(),
    ),
  }),
])

const tokenizerSchema = z.union([
  z.strictObject({ /** A tokenizer.json. */ file: z.string() }),
  z.strictObject({
    train: z.strictObject({
      vocabulary: count.max(1 << 20),
      special: z.array(z.string()).default(['<|endoftext|>']),
    }),
  }),
])

/** A training run, as its YAML file says it. Every field has a default except data, model and output. */
export const trainSchema = z.strictObject({
  output: z.string().describe('folder of the result: model, tokenizer, checkpoints, curve'),
  model: modelSchema,
  tokenizer: tokenizerSchema.optional().describe('needed when training from scratch on text'),
  data: z.strictObject({
    files: z.array(z.string()).min(1).describe('text (.txt, .md), JSONL (.jsonl) or token shards (.bin)'),
    order: z.enum(['shuffled', 'sequential']).default('shuffled'),
    validation: fraction.max(0.5).default(0.1).describe('the last part of the data, never trained on'),
    document_mask: z.boolean().default(false),
    reset_positions: z.boolean().default(false),
  }),
  seed: z.number().int().nonnegative().default(1),
  steps: count,
  batch: count.default(16).describe('sequences of one microbatch'),
  sequence: count.default(128).describe('tokens of a sequence'),
  accumulation: count.default(1).describe('microbatches of one step'),
  gradient_groups: count
    .default(1)
    .describe('gradients of a step are summed in so many groups, then the groups: as on so many data ranks'),
  optimizer: z
    .strictObject({
      learning_rate: z.number().positive().default(1e-3),
      beta1: fraction.default(0.9),
      beta2: fraction.default(0.95),
      eps: z.number().positive().default(1e-8),
      weight_decay: z.number().nonnegative().default(0.1).describe('of matrices; vectors are not decayed'),
      clip: z.number().nonnegative().default(1).describe('largest norm of all gradients; 0: off'),
    })
    .prefault({}),
  schedule: z
    .strictObject({
      kind: z.enum(['cosine', 'linear', 'constant']).default('cosine'),
      warmup: z.number().int().nonnegative().default(100).describe('steps'),
      final: fraction.default(0.1).describe('last learning rate as a part of the highest'),
    })
    .prefault({}),
  recipe: z
    .enum(Object.keys(recipes) as [RecipeName, ...RecipeName[]])
    .default('f32')
    .describe('formats of products and of what goes between them; masters, gradients and moments are f32'),
  recompute: z.enum(['none', 'layer']).default('none'),
  logits: z
    .enum(['stored', 'recomputed'])
    .default('stored')
    .describe(
      'recomputed: never more than a part of the vocabulary at a time, for a product more in each pass',
    ),
  evaluate_every: count.default(250).describe('steps between validation losses'),
  evaluate_batches: count.default(8),
  checkpoint_every: count.default(250),
  keep_checkpoints: count.default(2),
  weights_format: z.enum(['f32', 'f16', 'bf16']).default('f32').describe('storage of the saved model'),
})

export type TrainConfig = z.infer<typeof trainSchema>

/** Reads a training configuration; `invalid_config` names the field, what was expected and what came. */
export function parseTrainConfig(text: string, file: string): TrainConfig {
  let raw: unknown
  try {
    raw = parseYaml(text, { maxAliasCount: 16 })
  } catch (cause) {
    throw new ExactmapError(
      'invalid_config',
      `not valid YAML: ${(cause as Error).message}`,
      { file },
      { cause },
    )
  }
  const parsed = trainSchema.safeParse(raw)
  if (!parsed.success) {
    const lines = parsed.error.issues
      .slice(0, 5)
      .map((i) => `${i.path.join('.') || '(whole file)'}: ${i.message}`)
    throw new ExactmapError('invalid_config', lines.join('; '), { file })
  }
  return parsed.data
}

/** Learning rate of a step (from 0): linear warm-up, then the schedule down to `final` at the last step. */
export function learningRate(config: TrainConfig, step: number): number {
  const { learning_rate } = config.optimizer
  const { kind, warmup, final } = config.schedule
  if (step < warmup) return (learning_rate * (step + 1)) / warmup
  const progress = Math.min(1, (step - warmup) / Math.max(1, config.steps - warmup))
  if (kind === 'constant') return learning_rate
  const shape = kind === 'linear' ? 1 - progress : 0.5 * (1 + Math.cos(Math.PI * progress))
  return learning_rate * (final + (1 - final) * shape)
}
