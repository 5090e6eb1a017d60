import { expect } from 'vitest'
import type { Device, Executable } from '../../backends/backend.ts'
import { localTransports } from '../../backends/local_transport.ts'
import type { Transport } from '../../backends/transport.ts'
import type { InferenceSpec } from '../../src/engine/inference_graph.ts'
import { type InferenceGrid, type InferenceRank, rankInGrid } from '../../src/engine/ranks.ts'
import { EPS_F32, sumDepth } from '../../src/ops/tolerance.ts'
import { runAsRank } from '../../src/parallel/run_as_rank.ts'
import { loadInference, type Step, sameTokens } from '../models/drive.ts'
import { tinyConfigs, VOCABULARY } from '../models/tiny.ts'

// What tests of inference over ranks share, on whatever device.

/** Four layers, so that four stages have one each. */
export const configs = {
  llama: { ...tinyConfigs.llama, num_hidden_layers: 4 },
  // A tied head, biases on query, key and value.
  qwen2: { ...tinyConfigs.qwen2, num_hidden_layers: 4 },
  // Biases after sums of parts, learned positions; four key-value heads.
  gpt2: { ...tinyConfigs.gpt2, n_layer: 4 },
} as const
export type ModelName = keyof typeof configs

/** Three pieces of the one bucket, then past the first page of the cache. */
export const [PROMPT, TOKENS] = [40, 30]
export const PIECES = [16, 16, 8]
export const prompt = Array.from({ length: PROMPT }, (_, i) => 3 + ((17 * i) % 290))
export const f32: InferenceSpec = {
  context: 128,
  batch: 1,
  prefill: [16],
  weights: 'f32',
  kv: 'f32',
  logits: true,
}
export const f16: InferenceSpec = { ...f32, weights: 'f16', kv: 'f16' }

/**
 * Budgets of logits relative to the largest of a step. Tensor-parallel ranks add up in another order what 17 products one
 * after the other add up, at most 256 terms each, and so do the ranks they are compared with. In f16 such a difference may
 * turn the rounding of a key or value: of one of 64 components in each of four layers, as in test/models/logits.test.ts.
 */
export const F32 = 2 * 17 * sumDepth(256) * EPS_F32
export const F16 = F32 + (8 * 2 ** -11) / 8

/** The body on every rank of a run at once; one that fails ends the others. */
export const onRanks = <T>(size: number, body: (transport: Transport) => Promise<T>): Promise<T[]> =>
  Promise.all(localTransports(size).map((transport) => runAsRank(transport, () => body(transport))))

export const onGrid = <T>(grid: InferenceGrid, body: (rank: InferenceRank) => Promise<T>): Promise<T[]> =>
  onRanks(grid.pipeline * grid.tensor, (transport) => body(rankInGrid(grid, transport)))

/** Whether a rank has the last stage. */
export const sampling = ({ grid, place }: InferenceRank): boolean => place.pipeline === grid.pipeline - 1

/** What a rank, or the only one, does with the program that is loaded for it. */
export type Use<T> = (executable: Executable, many?: { rank: InferenceRank; vocab: number }) => Promise<T>

export async function used<T>(
  device: Device,
  path: string,
  spec: InferenceSpec,
  use: Use<T>,
  rank?: InferenceRank,
): Promise<T> {
  const executable = await loadInference(device, path, spec, rank)
  try {
    return await use(executable, rank && { rank, vocab: VOCABULARY })
  } finally {
    executable.destroy()
  }
}

/** Logits within the budget and tokens equal up to near ties; without a budget the same bytes. */
export function expectSame(what: string, got: readonly Step[], want: readonly Step[], budget: number): void {
  expect(got).toHaveLength(want.length)
  const steps = budget === 0 ? want.length : sameTokens(what, got, want, budget)
  for (const [i, { logits, token }] of want.slice(0, steps).entries()) {
    if (budget === 0) {
      expect(got[i], `${what}: step ${i}`).toEqual({ logits, token })
      continue
    }
    const largest = logits.reduce((a, v) => Math.max(a, Math.abs(v)), 0)
    const worst = logits.reduce((a, v, c) => Math.max(a, Math.abs(v - got[i]!.logits[c]!)), 0)
    expect(worst / largest, `${what}: step ${i}`).toBeLessThan(budget)
  }
  // A comparison that ends at once says nothing.
  expect(steps).toBeGreaterThan(want.length / 2)
}
