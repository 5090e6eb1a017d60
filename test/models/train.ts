import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Arena, Device } from '../../backends/backend.ts'
import { openModelFolder } from '../../src/formats/model_folder.ts'
import { loadTokenizer } from '../../src/formats/tokenizer.ts'
import { familyOf } from '../../src/models/index.ts'
import { checkpointTensors, readParameter } from '../../src/models/weights.ts'
import type { ArenaKind } from '../../src/program/program.ts'
import { type TrainConfig, trainSchema } from '../../src/train/config.ts'
import { openDataset } from '../../src/train/data/dataset.ts'
import { type Batch, Sampler } from '../../src/train/data/sampler.ts'
import { type StepReport, Trainer } from '../../src/train/trainer.ts'
import type { OracleBatch } from '../oracle/models.ts'
import { FABLES } from './tiny.ts'

/** What the training tests share: ten steps over the fables, two rows of 32 tokens each. */
export function trainConfig(changes: Record<string, unknown> = {}): TrainConfig {
  return trainSchema.parse({
    output: 'unused',
    model: { config: {} },
    data: { files: [FABLES] },
    steps: 10,
    batch: 2,
    sequence: 32,
    seed: 3,
    // An eps near the gradients' size: with the customary 1e-8 an element whose gradient is rounding noise alone
    // would still move by the whole learning rate, in a direction that no two programs share.
    optimizer: { learning_rate: 2e-3, eps: 1e-4, clip: 1 },
    schedule: { kind: 'cosine', warmup: 3, final: 0.1 },
    ...changes,
  })
}

/** Batches of a text file in the tokenizer of a model folder; every paragraph is a document. */
export async function sampler(folder: string, config: TrainConfig, file = FABLES): Promise<Sampler> {
  const tokenizer = loadTokenizer(await readFile(join(folder, 'tokenizer.json'), 'utf8'))
  const dataset = await openDataset({ files: [file], separator: '\n\n' }, tokenizer)
  const { order, reset_positions: resetPositions } = config.data
  return new Sampler(dataset, {
    batch: config.batch,
    length: config.sequence,
    seed: config.seed,
    order,
    resetPositions,
  })
}

/** A trainer whose parameters are those of the folder. */
export async function trainerOf(device: Device, folder: string, config: TrainConfig): Promise<Trainer> {
  const source = await openModelFolder(folder)
  const family = familyOf(source.config)
  const trainer = await Trainer.create(device, family, family.parse(source.config), config)
  await source.close()
  await restart(trainer, folder)
  return trainer
}

/** Brings a trainer back to step 0 with the parameters of the folder. */
export async function restart(trainer: Trainer, folder: string): Promise<void> {
  const source = await openModelFolder(folder)
  const names = new Set(source.weights.names())
  trainer.step = 0
  trainer.initialise()
  for (const spec of trainer.family.parameters(trainer.model))
    trainer.writeParameter(spec.name, await readParameter(spec, source.weights, names))
  trainer.parametersChanged()
  await source.close()
}

export async function trainSteps(trainer: Trainer, data: Sampler, count: number): Promise<StepReport[]> {
  const reports: StepReport[] = []
  while (reports.length < count) reports.push(await trainer.train(data))
  return reports
}

export const readArena = (arena: Arena): Promise<Uint8Array> => arena.read(0, arena.plan.bytes)

/** Tensors of a parameter-shaped arena under their names and layouts in a Hugging Face checkpoint. */
export async function checkpointOf(
  trainer: Pick<Trainer, 'arena' | 'family' | 'model'>,
  kind: ArenaKind,
): Promise<Map<string, Float32Array>> {
  const arena = trainer.arena(kind)
  const bytes = await readArena(arena)
  const all = new Map<string, Float32Array>()
  for (const spec of trainer.family.parameters(trainer.model)) {
    const tensor = arena.plan.tensors.find((t) => t.name === spec.name)!
    const values = new Float32Array(bytes.slice(tensor.offset, tensor.offset + tensor.bytes).buffer)
    for (const { name, values: part } of checkpointTensors(spec, values)) all.set(name, part)
  }
  return all
}

/** A batch as the oracle takes it. */
export function oracleBatch(batch: Batch, config: TrainConfig): OracleBatch {
  const rows = (values: ArrayLike<number>): number[][] =>
    Array.from({ length: config.batch }, (_, b) =>
      Array.from({ length: config.sequence }, (_, i) => values[b * config.sequence + i]!),
    )
  return {
    tokens: rows(batch.tokens),
    targets: rows(batch.targets),
    weights: rows(batch.weights),
    documents: config.data.document_mask ? rows(batch.documents) : null,
    positions: rows(batch.positions),
  }
}

/** Microbatches of the first `count` steps. */
export async function oracleSteps(
  data: Sampler,
  config: TrainConfig,
  count: number,
): Promise<OracleBatch[][]> {
  const steps: OracleBatch[][] = []
  for (let step = 0; step < count; step++) {
    const microbatches: OracleBatch[] = []
    for (let i = 0; i < config.accumulation; i++)
      microbatches.push(oracleBatch(await data.batch(step * config.accumulation + i), config))
    steps.push(microbatches)
  }
  return steps
}
