import { join } from 'node:path'
import { packageRoot } from '../../../backends/package_root.ts'
import type { WebGpuDevice } from '../../../backends/webgpu/device.ts'
import { openModelFolder } from '../../../src/formats/model_folder.ts'
import { familyOf } from '../../../src/models/index.ts'
import { readParameter } from '../../../src/models/weights.ts'
import { trainSchema } from '../../../src/train/config.ts'
import type { Batch } from '../../../src/train/data/sampler.ts'
import { Trainer } from '../../../src/train/trainer.ts'
import { type Prepared, timed } from '../../suite/contender.ts'
import { trainingIds } from '../../suite/inputs.ts'
import { median } from '../../suite/measure.ts'
import type { Work } from '../../suite/works.ts'

/** Rounds in which a step and its forward segment are timed in turn. */
const ROUNDS = 5

/** Steps with the product's own trainer, from the weights of the bundled model. */
export async function prepareTrainStep(
  device: WebGpuDevice,
  work: Work & { kind: 'train_step' },
): Promise<Prepared> {
  const folder = await openModelFolder(join(packageRoot(), 'assets', 'shakespeare'))
  const family = familyOf(folder.config)
  const model = family.parse(folder.config)
  const config = trainSchema.parse({
    output: '',
    model: { config: folder.config },
    data: { files: [''] },
    steps: Number.MAX_SAFE_INTEGER,
    batch: work.batch,
    sequence: work.sequence,
    optimizer: { learning_rate: 3e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, clip: 1 },
    schedule: { kind: 'constant', warmup: 0 },
  })
  const trainer = await Trainer.create(device, family, model, config)
  const parameters = new Map<string, Float32Array>()
  const names = new Set(folder.weights.names())
  for (const spec of family.parameters(model))
    parameters.set(spec.name, await readParameter(spec, folder.weights, names))
  await folder.close()
  const losses: number[] = []
  const start = (): void => {
    trainer.initialise()
    for (const [name, values] of parameters) trainer.writeParameter(name, values)
    trainer.parametersChanged()
    trainer.step = 0
    losses.length = 0
  }
  const batch = batchOf(work)
  const run = (times: number): Promise<number> =>
    timed(times, async () => {
      for (let i = 0; i < times; i++) losses.push((await trainer.train({ batch: async () => batch })).loss)
    })

  start()
  await run(1)
  const { executable } = trainer
  const forward = executable.program.segments.find((s) => s.name === 'forward')!
  const ratios: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const step = await run(1)
    const alone = await timed(1, () => {
      executable.runSteps(forward.name, 0, forward.steps.length)
      return executable.finished()
    })
    ratios.push(step / alone)
  }
  start()
  return {
    notes: 'f32; the loss of every step is read back',
    facts: { step_over_forward: median(ratios) },
    run,
    sample: async (indices) => indices.map((i) => losses[i]!),
    release: async () => trainer.destroy(),
  }
}

/** The same rows in every step; each target is the id that follows. */
function batchOf({ batch, sequence }: Work & { kind: 'train_step' }): Batch {
  const ids = trainingIds(batch, sequence + 1)
  const rows = (shift: number): Uint32Array =>
    Uint32Array.from(
      { length: batch * sequence },
      (_, i) => ids[Math.floor(i / sequence) * (sequence + 1) + (i % sequence) + shift]!,
    )
  return {
    tokens: rows(0),
    targets: rows(1),
    weights: new Float32Array(batch * sequence).fill(1),
    counted: batch * sequence,
    documents: new Uint32Array(batch * sequence),
    positions: Uint32Array.from({ length: batch * sequence }, (_, i) => i % sequence),
  }
}
