import type { Device } from '../../backends/backend.ts'
import type { ActivationFormat } from '../../src/engine/activations.ts'
import type { InferenceSpec } from '../../src/engine/inference_graph.ts'
import type { FormatName } from '../../src/tensor/format.ts'
import { Driver, loadInference, type Step, sameTokens } from './drive.ts'

const PROMPT = Array.from({ length: 40 }, (_, i) => 3 + ((29 * i) % 250))
const TOKENS = 8

/**
 * What rounding the weights alone does to logits is the measure: it counts four times a layer, once for the head and once
 * for the table. Of about the same size and independent are the roundings of activations: x of each product, the packed
 * projection and what is rotated of it, gate and up: seven a layer, and x of the head. Twice the ratio of their roots is
 * allowed, for a sample of one model.
 */
const factor = (layers: number): number => 2 * Math.sqrt((7 * layers + 1) / (4 * layers + 2))

/** Root mean square. */
const rms = (values: readonly number[]): number =>
  Math.sqrt(values.reduce((sum, v) => sum + v * v, 0) / values.length)

/** Differences of logits, of the steps before which all tokens were the same. */
function differences(got: readonly Step[], want: readonly Step[]): number[] {
  const parted = want.findIndex(({ token }, i) => got[i]!.token !== token)
  const count = parted < 0 ? want.length : parted + 1
  return want.slice(0, count).flatMap(({ logits }, i) => [...logits].map((v, c) => got[i]!.logits[c]! - v))
}

interface Verdict {
  /** The part of what logits may be off those of activations in f32, with the same weights. */
  readonly used: number
  /** Greedy tokens that were compared, up to a near tie. */
  readonly tokens: number
}

/** Judges a model with activations in 16 bits by runs of the same device in f32. */
export async function judgeActivations(
  device: Device,
  path: string,
  { weights, activations }: { readonly weights: FormatName; readonly activations: 'f16' | 'bf16' },
  layers: number,
): Promise<Verdict> {
  const greedy = async (weights: FormatName, activations: ActivationFormat): Promise<Step[]> => {
    const sizes = { context: 64, batch: 1, prefill: [64], kv: 'f32', logits: true } as const
    const spec: InferenceSpec = { ...sizes, weights, activations }
    const executable = await loadInference(device, path, spec)
    const steps = await new Driver(executable, spec).greedy(PROMPT, TOKENS)
    executable.destroy()
    return steps
  }
  const want = await greedy(weights, 'f32')
  const got = await greedy(weights, activations)
  const rounded = weights === activations ? want : await greedy(activations, 'f32')
  const allowed = factor(layers) * rms(differences(rounded, await greedy('f32', 'f32')))
  const used = rms(differences(got, want)) / allowed
  const what = `activations in ${activations}, weights in ${weights}`
  console.log(`${what}: ${(100 * used).toFixed(0)}% of what logits may be off those in f32`)
  // Four times the root mean square: one of 16,000 logits is further off.
  const budget = (4 * allowed) / Math.max(...want[0]!.logits.map(Math.abs))
  return { used, tokens: sameTokens(what, got, want, budget) }
}
