import type { Device } from '../../backends/backend.ts'
import { localTransports } from '../../backends/local_transport.ts'
import { familyOf } from '../../src/models/index.ts'
import { putShard } from '../../src/models/shard.ts'
import { scheduleNamed } from '../../src/parallel/schedules/index.ts'
import { buildSchedule } from '../../src/parallel/schedules/schedule.ts'
import { Philox } from '../../src/tensor/philox.ts'
import { elementCount } from '../../src/tensor/type.ts'
import { type TrainConfig, trainSchema } from '../../src/train/config.ts'
import type { Batch } from '../../src/train/data/sampler.ts'
import { type GridPlace, onePlace, oneRankGrid, type TrainingGrid } from '../../src/train/grid.ts'
import { type BatchSource, type StepReport, Trainer } from '../../src/train/trainer.ts'

/** Four layers, so that four stages have one each; everything divides by two tensor-parallel ranks. */
export const models = {
  llama: {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: 64,
    hidden_size: 32,
    intermediate_size: 48,
    num_hidden_layers: 4,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    max_position_embeddings: 32,
    tie_word_embeddings: true,
  },
  /** A head of its own, biases, and heads that share no keys. */
  qwen2: {
    architectures: ['Qwen2ForCausalLM'],
    model_type: 'qwen2',
    vocab_size: 64,
    hidden_size: 32,
    intermediate_size: 48,
    num_hidden_layers: 4,
    num_attention_heads: 2,
    max_position_embeddings: 32,
  },
  gpt2: {
    architectures: ['GPT2LMHeadModel'],
    model_type: 'gpt2',
    vocab_size: 64,
    n_embd: 32,
    n_layer: 4,
    n_head: 4,
    n_positions: 32,
  },
} as const

export const config = (accumulation: number, changes: Record<string, unknown> = {}): TrainConfig =>
  trainSchema.parse({
    output: 'unused',
    model: { config: {} },
    data: { files: ['unused'] },
    steps: 10,
    batch: 2,
    sequence: 16,
    seed: 5,
    accumulation,
    optimizer: { learning_rate: 2e-3, eps: 1e-4, clip: 1 },
    schedule: { kind: 'cosine', warmup: 3, final: 0.1 },
    ...changes,
  })

/** Random tokens with unequal weights: microbatch number i is always the same. */
export function randomBatches({ batch, sequence }: TrainConfig, vocabulary: number): BatchSource {
  return {
    async batch(index): Promise<Batch> {
      const random = new Philox(17, index)
      const rows = batch * sequence
      const ids = (): Uint32Array =>
        Uint32Array.from({ length: rows }, () => Math.floor(random.uniform() * vocabulary))
      const weights = Float32Array.from({ length: rows }, (_, i) => ((i + index) % 5 === 0 ? 0 : 1))
      return {
        tokens: ids(),
        targets: ids(),
        weights,
        counted: weights.reduce((a, b) => a + b, 0),
        documents: new Uint32Array(rows),
        positions: Uint32Array.from({ length: rows }, (_, i) => i % sequence),
      }
    },
  }
}

export interface GridResult {
  /** Of every rank, by step. */
  readonly reports: readonly (readonly StepReport[])[]
  /** Whole parameters after the last step. */
  readonly parameters: ReadonlyMap<string, Float32Array>
}

export interface GridAxes {
  readonly schedule?: string
  readonly pipeline?: number
  readonly chunks?: number
  readonly tensor?: number
  readonly data?: number
  readonly zero?: 0 | 1
}

export function gridOf(
  { schedule = '1f1b', pipeline = 1, chunks, tensor = 1, data = 1, zero = 0 }: GridAxes,
  microbatches: number,
): TrainingGrid {
  const definition = scheduleNamed(schedule)
  return { schedule: buildSchedule(definition, pipeline, microbatches / data, chunks), tensor, data, zero }
}

/** Trains with every rank of a grid in this process, on one device. */
export async function trainGrid(
  device: Device,
  model: keyof typeof models,
  train: TrainConfig,
  grid: TrainingGrid | undefined,
  steps = train.steps,
): Promise<GridResult> {
  const family = familyOf(models[model])
  const shape = family.parse(models[model])
  const places = placesOf(grid ?? oneRankGrid(train.accumulation))
  const rankAt = ({ pipeline, tensor, data }: GridPlace): number =>
    places.findIndex((p) => p.pipeline === pipeline && p.tensor === tensor && p.data === data)
  const transports = localTransports(places.length)
  const trainers = await Promise.all(
    places.map((place, rank) =>
      Trainer.create(
        device,
        family,
        shape,
        train,
        grid ? { rank: { grid, place, transport: transports[rank]!, rankAt } } : {},
      ),
    ),
  )
  const data = randomBatches(train, shape.vocab)
  const reports = await Promise.all(
    trainers.map(async (trainer, rank) => {
      try {
        trainer.initialise()
        const list: StepReport[] = []
        while (list.length < steps) list.push(await trainer.train(data))
        await trainer.executable.finished()
        return list
      } catch (error) {
        transports[rank]!.abort(error as never)
        throw error
      }
    }),
  )
  const parameters = new Map<string, Float32Array>()
  for (const trainer of trainers)
    for (const [name, shard] of trainer.compiled.layout.shards) {
      const whole = parameters.get(name) ?? new Float32Array(elementCount(shard.spec.shape))
      putShard(shard, await trainer.readParameter(name), whole)
      parameters.set(name, whole)
    }
  for (const trainer of trainers) trainer.destroy()
  return { reports, parameters }
}

/** Every place of a grid, by rank. */
export function placesOf({ schedule, tensor, data }: TrainingGrid): GridPlace[] {
  const places: GridPlace[] = []
  for (let d = 0; d < data; d++)
    for (let p = 0; p < schedule.p; p++)
      for (let t = 0; t < tensor; t++) places.push({ ...onePlace, pipeline: p, tensor: t, data: d })
  return places
}
