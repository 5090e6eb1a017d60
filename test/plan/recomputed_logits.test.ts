import { describe, expect, it } from 'vitest'
import { readKernelLibrary } from '../../backends/webgpu/node/library.ts'
import { storedTarget } from '../../backends/webgpu/node/stored_targets.ts'
import { familyOf } from '../../src/models/index.ts'
import { trainingProgram } from '../../src/train/trainer.ts'
import { tinyConfigs } from '../models/tiny.ts'
import { trainConfig } from '../models/train.ts'

// A training program without logits, at a vocabulary that has more of them than all the rest.
const target = storedTarget('webgpu-lavapipe', readKernelLibrary())
const VOCABULARY = 32768

function programOf(logits: string, changes: Record<string, unknown> = {}, model: object = tinyConfigs.llama) {
  const json = { ...model, vocab_size: VOCABULARY }
  const family = familyOf(json)
  const config = trainConfig({ batch: 8, sequence: 128, logits, ...changes })
  return trainingProgram(target, family, family.parse(json), config).program
}

const activations = (program: ReturnType<typeof programOf>): number =>
  program.arenas.find((a) => a.kind === 'activations')!.bytes

describe('logits: recomputed', () => {
  it.each([['f32'], ['bf16']])('needs a part of the memory of stored ones, %s', (recipe) => {
    const [stored, recomputed] = ['stored', 'recomputed'].map((logits) =>
      activations(programOf(logits, { recipe })),
    ) as [number, number]
    const logits = 4 * 1024 * VOCABULARY
    expect(stored).toBeGreaterThan(logits)
    // 32 MB of logits and as much of their gradients, at most, where 134 MB are stored.
    expect(recomputed).toBeLessThan(stored - logits / 2)
  })

  it('reads the weights of a tied head in each pass and adds to one gradient', () => {
    const tied = { ...tinyConfigs.llama, tie_word_embeddings: true }
    const steps = programOf('recomputed', {}, tied).segments.flatMap((s) => s.steps)
    const names = steps.map((s) => s.name)
    for (const op of ['linear_cross_entropy.', 'backward_input.', 'backward_weight.'])
      expect(names.some((name) => name.includes(op))).toBe(true)
    expect(names.some((name) => /(^|\/)cross_entropy/.test(name))).toBe(false)
  })

  it('refuses rows that do not fit', () => {
    expect(() => programOf('recomputed', { batch: 1, sequence: 40 })).toThrow(
      /multiple of 32, got 40; change batch or sequence/,
    )
  })
})
