import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import type { InferenceSpec } from '../../src/engine/inference_graph.ts'
import { openModelFolder } from '../../src/formats/model_folder.ts'
import { loadTokenizer } from '../../src/formats/tokenizer.ts'
import { exportGguf } from '../../src/models/gguf_export.ts'
import { open } from '../../src/open.ts'
import { EPS_F32, sumDepth } from '../../src/ops/tolerance.ts'
import { llamaCppGreedy, llamaCppLogits, llamaCppMissing } from '../oracle/llama_cpp.ts'
import { Driver, loadInference } from './drive.ts'
import { FABLES, fablesTokenizer, temporaryFolder, tinyConfigs, writeModelFolder } from './tiny.ts'

// The same weights in llama.cpp, an engine that shares no line with this one.

const missing = llamaCppMissing()
const folder = await temporaryFolder()
afterAll(() => rm(folder, { recursive: true, force: true }))

/**
 * Of the largest logit, with f32 weights on both sides. Llama: nine products, each a sum of at most 176 terms in a
 * tree, on either side. GPT-2: llama.cpp looks gelu up in a table of f16, so argument and value are rounded to
 * 2^-11 each, in two layers.
 */
const SUMS = 2 * 9 * sumDepth(176) * EPS_F32
const BUDGETS = { llama: SUMS, gpt2: SUMS + 4 * 2 ** -11 }
const TOKENS = 24

for (const [name, budget] of Object.entries(BUDGETS) as ['llama' | 'gpt2', number][])
  it(`tiny ${name} exported to GGUF decodes in llama.cpp as here, until a near tie`, async (ctx) => {
    if (missing) ctx.skip(missing)
    const path = await writeModelFolder(join(folder, name), tinyConfigs[name])
    const source = await openModelFolder(path)
    const gguf = join(folder, `${name}.gguf`)
    await exportGguf(source, gguf, { format: 'f32' })
    await source.close()

    const device = await open('webgpu')
    const spec: InferenceSpec = {
      context: 128,
      batch: 1,
      prefill: [64],
      weights: 'f32',
      kv: 'f32',
      logits: true,
    }
    const prompt = [...loadTokenizer(await fablesTokenizer()).encode(await readFile(FABLES, 'utf8'))].slice(
      100,
      140,
    )
    const steps = await new Driver(await loadInference(device, path, spec), spec).greedy(prompt, TOKENS)
    device.destroy()

    const logits = (await llamaCppLogits(gguf, prompt)).at(-1)!
    const scale = Math.max(...logits.map(Math.abs))
    const off = Math.max(...logits.map((l, i) => Math.abs(l - steps[0]!.logits[i]!))) / scale
    console.log(
      `tiny ${name}: logits after the prompt differ from llama.cpp's by ${off.toExponential(2)} of the largest`,
    )
    expect(off).toBeLessThanOrEqual(budget)

    const theirs = await llamaCppGreedy(gguf, prompt, TOKENS)
    for (const [i, step] of steps.entries()) {
      const [first, second] = [...step.logits].sort((a, b) => b - a) as [number, number]
      if (first - second < 2 * budget * Math.max(...step.logits.map(Math.abs))) {
        console.log(
          `tiny ${name}: step ${i} is a near tie (${first} and ${second}); tokens are compared up to it`,
        )
        break
      }
      expect(theirs[i], `step ${i}`).toBe(step.token)
    }
  })
