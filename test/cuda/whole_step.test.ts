import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { LoadOptions } from '../../backends/backend.ts'
import type { InferenceSpec } from '../../src/engine/inference_graph.ts'
import { emulatedDevice } from '../helpers/cuda.ts'
import { Driver, loadInference } from '../models/drive.ts'
import { temporaryFolder, tinyConfigs, writeModelFolder } from '../models/tiny.ts'

// A decode step as one persistent kernel against the graph of its launches, bit for bit.

const device = await emulatedDevice()
const reason = typeof device === 'string' ? device : ''
let folder = ''

const spec: InferenceSpec = {
  context: 128,
  batch: 1,
  prefill: [64],
  weights: 'f16',
  kv: 'f16',
  logits: true,
}
const PROMPT = Array.from({ length: 40 }, (_, i) => 3 + ((29 * i) % 250))
const TOKENS = 64

describe.skipIf(reason)(`a walked decode step${reason && ` (skipped: ${reason})`}`, () => {
  beforeAll(async () => {
    folder = await temporaryFolder()
  })
  afterAll(async () => {
    await rm(folder, { recursive: true, force: true })
    if (typeof device !== 'string') device.destroy()
  })

  async function greedy(path: string, options: LoadOptions) {
    if (typeof device === 'string') throw new Error(device)
    const executable = await loadInference(device, path, spec, undefined, options)
    const steps = await new Driver(executable, spec).greedy(PROMPT, TOKENS)
    executable.destroy()
    return steps
  }

  it.each([
    'llama',
    'qwen2',
    'gpt2',
  ] as const)(`%s: ${TOKENS} tokens have the logits of the graph`, async (name) => {
    const path = await writeModelFolder(join(folder, name), tinyConfigs[name])
    const want = await greedy(path, {})
    const got = await greedy(path, { whole: ['decode'] })
    expect(got.map((s) => s.token)).toEqual(want.map((s) => s.token))
    expect(got.map((s) => s.logits)).toEqual(want.map((s) => s.logits))
  }, 120_000)
})
