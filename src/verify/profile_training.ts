import { Philox } from '../tensor/philox.ts'
import type { Batch } from '../train/data/sampler.ts'
import type { BatchSource, Trainer } from '../train/trainer.ts'
import type { SegmentTimes } from './profile.ts'
import { fastestRound, type ProfileContext, profileSegments, type StepProfile } from './step_profile.ts'

const ROUNDS = 4

export interface TrainingProfile {
  readonly step: StepProfile
  readonly times: readonly SegmentTimes[]
  /** A step's forward passes, each submitted and waited for by itself, in seconds. */
  readonly forwardSeconds: number
  /** A real step over that. */
  readonly stepOverForward: number
}

/** Batches of random tokens, all of which count: time does not depend on what is learned. */
function randomBatches({ config, model }: Trainer): BatchSource {
  const { batch, sequence } = config
  const length = batch * sequence
  return {
    async batch(index): Promise<Batch> {
      const random = new Philox(1, index)
      const ids = (): Uint32Array => Uint32Array.from({ length }, () => random.integer(model.vocab))
      return {
        tokens: ids(),
        targets: ids(),
        weights: new Float32Array(length).fill(1),
        counted: length,
        documents: new Uint32Array(length),
        positions: Uint32Array.from({ length }, (_, i) => i % sequence),
      }
    },
  }
}

/** Measures a training step on one rank, on random tokens. Parameters and moments are of no use afterwards. */
export async function profileTraining(
  trainer: Trainer,
  context: Omit<ProfileContext, 'executable'>,
): Promise<TrainingProfile> {
  const { executable, compiled } = trainer
  const all: ProfileContext = { ...context, executable }
  const source = randomBatches(trainer)
  // Made before, as a data loader would: none of a step's time.
  const batches = await Promise.all(
    Array.from({ length: trainer.config.accumulation }, (_, i) => source.batch(i)),
  )
  const data: BatchSource = { batch: async (index) => batches[index % batches.length]! }
  trainer.initialise()
  await trainer.train(data)
  const runs = new Map<string, number>()
  const forward = executable.program.segments.find(({ name }) => name === 'forward')!
  let forwardSeconds = Number.POSITIVE_INFINITY
  const round = await fastestRound(all, 'training step', ROUNDS, async (clock) => {
    clock.start()
    const from = performance.now()
    await trainer.train(data)
    const seconds = (performance.now() - from) / 1000
    const host = clock.read(1)
    // In turns with the steps, so that both see the same machine.
    await executable.finished()
    const begin = performance.now()
    executable.runSteps('forward', 0, forward.steps.length)
    await executable.finished()
    forwardSeconds = Math.min(
      forwardSeconds,
      (trainer.config.accumulation * (performance.now() - begin)) / 1000,
    )
    return { seconds, steps: 1, host }
  })
  const { groups = 1 } = trainer.grid
  const once = ['zero', 'reduce', 'optimizer', 'publish']
  for (const { name } of executable.program.segments)
    runs.set(
      name,
      once.includes(name)
        ? 1
        : name === 'group'
          ? groups
          : compiled.entries.filter(({ segment }) => segment === name).length,
    )
  const { segments, times } = await profileSegments(all, runs, [])
  return {
    step: { name: 'training step', ...round, segments },
    times,
    forwardSeconds,
    stepOverForward: round.seconds / forwardSeconds,
  }
}
