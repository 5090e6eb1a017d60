import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { InferenceSpec } from '../../src/engine/inference_graph.ts'
import { loadTokenizer } from '../../src/formats/tokenizer.ts'
import { open } from '../../src/open.ts'
import { EPS_F32, sumDepth } from '../../src/ops/tolerance.ts'
import { askTorch, torchMissing } from '../oracle/models.ts'
import { Driver, loadInference, type Step, sameTokens } from './drive.ts'
import {
  FABLES,
  fablesTokenizer,
  type TinyName,
  temporaryFolder,
  tinyConfigs,
  writeModelFolder,
} from './tiny.ts'

// Whole models against PyTorch in float64: prefill and decode logits of every tiny model on both backends.

/** The prompt and what follows pass token 64, into the second page of the cache. */
const [PROMPT, TOKENS] = [40, 28]
/** Through the small bucket, then the large one. */
const PIECES = [16, 24]
const names = Object.keys(tinyConfigs) as TinyName[]
const spec: InferenceSpec = {
  context: 128,
  batch: 1,
  prefill: [64],
  weights: 'f32',
  kv: 'f32',
  logits: true,
}

/** Nine matrix products lie between ids and logits, each a sum of at most 176 terms in a tree. */
const F32 = 9 * sumDepth(176) * EPS_F32
/**
 * Budgets relative to the largest logit of a step.
 * - reference: only stores round, to f32: some 21 ops one after the other, two roundings each.
 * - f16: PyTorch rounds weights, keys and values to f16 too. What is left is an f32 difference before that
 *   rounding that turns a component the other way: 2^-11 of one of 64 components, so 2^-11 / 8 of a row's norm;
 *   four of those may meet in one step.
 */
const budgets = {
  reference: 21 * 2 * EPS_F32,
  f32: F32,
  pieces: F32,
  f16: F32 + (4 * 2 ** -11) / 8,
  pair0: F32,
  pair1: F32,
}
type Kind = keyof typeof budgets
/**
 * Ways in which each model runs. Every shape of program means kernels that a software driver compiles for seconds,
 * so a prompt in pieces and two sequences at once are tried where the attention differs, not on every model.
 */
const ways: Record<TinyName, readonly Kind[]> = {
  llama: ['reference', 'f32', 'f16', 'pieces', 'pair0', 'pair1'],
  qwen2: ['reference', 'f32', 'f16'],
  mistral: ['reference', 'f32', 'f16', 'pieces'],
  gpt2: ['reference', 'f32', 'f16'],
}

interface Run {
  readonly prompt: readonly number[]
  readonly steps: readonly Step[]
}

const webgpu = await open('webgpu')
const reference = await open('reference')
const missing = torchMissing()
const runs = new Map<string, Run | Error>()
let folder = ''
let prompts: number[][] = []
let expected = new Map<string, Float64Array>()

function runOf(name: TinyName, kind: Kind): Run {
  const run = runs.get(`${name}/${kind}`)
  if (!run || run instanceof Error) throw run
  return run
}

/** What one model does in every way it is run; a failure belongs to the tests of that way. */
async function runAll(name: TinyName, path: string): Promise<void> {
  const attempt = async (kinds: Kind[], body: () => Promise<Run[]>): Promise<void> => {
    if (!ways[name].includes(kinds[0]!)) return
    try {
      const made = await body()
      for (const [i, kind] of kinds.entries()) runs.set(`${name}/${kind}`, made[i]!)
    } catch (error) {
      for (const kind of kinds) runs.set(`${name}/${kind}`, error as Error)
    }
  }
  const [prompt, other] = prompts as [number[], number[]]
  await attempt(['reference'], async () => {
    const executable = await loadInference(reference, path, spec)
    return [{ prompt, steps: await new Driver(executable, spec).greedy(prompt, TOKENS) }]
  })
  await attempt(['f32'], async () => {
    const executable = await loadInference(webgpu, path, spec)
    const steps = await new Driver(executable, spec).greedy(prompt, TOKENS)
    executable.destroy()
    return [{ prompt, steps }]
  })
  await attempt(['pieces'], async () => {
    const buckets = { ...spec, prefill: [16, 64] }
    const executable = await loadInference(webgpu, path, buckets)
    const steps = await new Driver(executable, buckets).greedy(prompt, 1, PIECES)
    executable.destroy()
    return [{ prompt, steps }]
  })
  await attempt(['f16'], async () => {
    const executable = await loadInference(webgpu, path, { ...spec, weights: 'f16', kv: 'f16' })
    const steps = await new Driver(executable, spec).greedy(prompt, TOKENS)
    executable.destroy()
    return [{ prompt, steps }]
  })
  await attempt(['pair0', 'pair1'], async () => {
    const pair = { ...spec, batch: 2 }
    const executable = await loadInference(webgpu, path, pair)
    const driver = new Driver(executable, pair)
    // Sequence 1 joins later, so that a step with a resting row comes first.
    const first = [await driver.prefill(0, prompt), (await driver.decode(new Map([[0, PROMPT]])))[0]!]
    const second = [await driver.prefill(1, other)]
    for (let i = 0; i < 8; i++) {
      const at = new Map([
        [0, PROMPT + first.length - 1],
        [1, other.length + second.length - 1],
      ])
      const [a, b] = await driver.decode(at)
      first.push(a!)
      second.push(b!)
    }
    executable.destroy()
    return [
      { prompt, steps: first },
      { prompt: other, steps: second },
    ]
  })
}

beforeAll(async () => {
  folder = await temporaryFolder()
  const ids = [...loadTokenizer(await fablesTokenizer()).encode(await readFile(FABLES, 'utf8'))]
  prompts = [ids.slice(100, 100 + PROMPT), ids.slice(700, 723)]
  for (const name of names) await runAll(name, await writeModelFolder(join(folder, name), tinyConfigs[name]))
  if (missing) return
  expected = await askTorch(
    [...runs].flatMap(([key, run]) => {
      if (run instanceof Error) return []
      const [name, kind] = key.split('/') as [TinyName, Kind]
      const ids = [...run.prompt, ...run.steps.slice(0, -1).map((s) => s.token)]
      return [
        {
          kind: 'logits' as const,
          name: key,
          folder: join(folder, name),
          storage: kind === 'f16' ? ('f16' as const) : ('f32' as const),
          ids,
        },
      ]
    }),
  )
}, 300_000)

afterAll(async () => {
  webgpu.destroy()
  await rm(folder, { recursive: true, force: true })
})

/** Largest difference relative to the largest logit. */
function difference(got: Float32Array, want: ArrayLike<number>): number {
  let [most, scale] = [0, 0]
  for (let i = 0; i < got.length; i++) {
    const off = Math.abs(got[i]! - want[i]!)
    // NaN must not pass as "no larger than".
    if (!(off <= most)) most = off
    scale = Math.max(scale, Math.abs(want[i]!))
  }
  return most / scale
}

for (const name of names)
  describe(`tiny ${name}`, () => {
    for (const kind of ways[name])
      it(`${kind}: logits are PyTorch's`, (ctx) => {
        if (missing) ctx.skip(missing)
        const { prompt, steps } = runOf(name, kind)
        const all = expected.get(`${name}/${kind}`)!
        const vocab = steps[0]!.logits.length
        expect(all.length).toBe((prompt.length + steps.length - 1) * vocab)
        const off = steps.map(({ logits }, i) => {
          const row = prompt.length - 1 + i
          return difference(logits, all.subarray(row * vocab, (row + 1) * vocab))
        })
        console.log(
          `tiny ${name}, ${kind}: largest difference ${Math.max(...off).toExponential(2)} of the largest logit, budget ${budgets[kind].toExponential(2)}`,
        )
        for (const [i, one] of off.entries()) expect(one, `step ${i}`).toBeLessThanOrEqual(budgets[kind])
      })

    it('greedy tokens of WebGPU are those of the reference until a near tie', () => {
      sameTokens(`tiny ${name}`, runOf(name, 'f32').steps, runOf(name, 'reference').steps, F32)
    })

    if (ways[name].includes('pieces'))
      it('a prompt in pieces over several buckets gives the logits of the prompt at once', () => {
        const whole = runOf(name, 'f32').steps[0]!
        expect(difference(runOf(name, 'pieces').steps[0]!.logits, whole.logits)).toBeLessThanOrEqual(2 * F32)
      })

    if (ways[name].includes('pair0'))
      it('a sequence decodes beside another as it does alone', () => {
        const [alone, beside] = [runOf(name, 'f32').steps, runOf(name, 'pair0').steps]
        const same = sameTokens(`tiny ${name}`, beside, alone.slice(0, beside.length), F32)
        for (let i = 0; i < same; i++)
          expect(difference(beside[i]!.logits, alone[i]!.logits), `step ${i}`).toBeLessThanOrEqual(2 * F32)
      })
  })
