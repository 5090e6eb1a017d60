import { segmentOfPrefill } from '../engine/inference_graph.ts'
import type { Model } from '../engine/load.ts'
import { check } from '../errors.ts'
import { Philox } from '../tensor/philox.ts'
import { type HeapUse, heapUse } from './host_time.ts'
import type { SegmentTimes } from './profile.ts'
import { fastestRound, type ProfileContext, profileSegments, type StepProfile } from './step_profile.ts'

const ROUNDS = 5
/** Decode steps of a round. */
const DECODES = 32
const HEAP_ROUNDS = 4

export interface InferenceProfile {
  readonly steps: readonly StepProfile[]
  readonly times: readonly SegmentTimes[]
  /** What the heap takes per decode step. */
  readonly heap: HeapUse
}

/**
 * Measures prefill of a random prompt and decode after it.
 *
 * @param tokens of the prompt; a longer one than the largest prefill segment goes through in pieces, and the last is measured
 * @param collect runs the garbage collector
 */
export async function profileInference(
  model: Model,
  tokens: number,
  context: Omit<ProfileContext, 'executable'>,
  collect: () => void,
): Promise<InferenceProfile> {
  const { generator, executable, spec } = model
  const decodes = Math.min(DECODES, spec.context - tokens - 1)
  check(
    decodes >= 2,
    'invalid_argument',
    `a prompt of ${tokens} tokens leaves no room for decode steps in a context of ${spec.context}; take fewer --tokens or a longer --context`,
  )
  const all: ProfileContext = { ...context, executable }
  const random = new Philox(1)
  const ids = Array.from({ length: tokens }, () => random.integer(model.config.vocab))
  const largest = spec.prefill.at(-1)!
  const pieces = Math.ceil(tokens / largest)
  const start = (pieces - 1) * largest
  const name = segmentOfPrefill(spec.prefill.find((rows) => rows >= tokens - start)!)

  const prefill = await fastestRound(all, name, ROUNDS, async (clock) => {
    clock.start()
    const from = performance.now()
    for await (const _ of generator.generate(ids, { maxTokens: 1, temperature: 0 }));
    return {
      seconds: (performance.now() - from) / 1000 / pieces,
      steps: pieces,
      host: clock.read(pieces),
    }
  })
  /** The first token comes from prefill; by then the first decode step is submitted. */
  const decodeAll = async (first: () => void): Promise<void> => {
    let begun = false
    for await (const _ of generator.generate(ids, { maxTokens: 1 + decodes, temperature: 0 })) {
      if (!begun) first()
      begun = true
    }
  }
  const decode = await fastestRound(all, 'decode', ROUNDS, async (clock) => {
    let from = 0
    await decodeAll(() => {
      clock.start()
      from = performance.now()
    })
    const seconds = (performance.now() - from) / 1000 / decodes
    return { seconds, steps: decodes, host: clock.read(decodes - 1) }
  })
  const heap = await heapUse(
    async () => {
      for (let i = 0; i < HEAP_ROUNDS; i++) await decodeAll(() => {})
    },
    HEAP_ROUNDS * decodes,
    collect,
  )

  // Leaves inputs in the arenas that launches can be repeated on: those of the last piece and of the first decode step.
  for await (const _ of generator.generate(ids, { maxTokens: 2, temperature: 0 }));
  const at = (position: number) => ({ sequence: 0, position })
  const rows = Array.from({ length: tokens - start }, (_, i) => at(start + i))
  const ofPrefill = await profileSegments(all, new Map([[name, 1]]), rows)
  const ofDecode = await profileSegments(all, new Map([['decode', 1]]), [at(tokens)])
  return {
    steps: [
      { name, ...prefill, segments: ofPrefill.segments },
      { name: 'decode', oneKernel: model.wholeStep, ...decode, segments: ofDecode.segments },
    ],
    times: [...ofPrefill.times, ...ofDecode.times],
    heap,
  }
}
