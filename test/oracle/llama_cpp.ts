import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

/**
 * llama.cpp on the CPU (through node-llama-cpp) as an independent opinion on whole models.
 * It is no dependency of the product: `npm install --no-save --prefix bench` installs it.
 */

/** The part of node-llama-cpp used here, declared so that type checks don't need it installed. */
interface Library {
  LlamaLogLevel: { error: string }
  getLlama(options: Record<string, unknown>): Promise<{
    loadModel(options: Record<string, unknown>): Promise<LoadedModel>
    dispose(): Promise<void>
  }>
}
interface LoadedModel {
  readonly trainContextSize: number
  tokenize(text: string, special?: boolean): number[]
  createContext(options: Record<string, unknown>): Promise<{ getSequence(): Sequence }>
}
interface Sequence {
  controlledEvaluate(
    input: [token: number, options: { generateNext: Record<string, unknown> }][],
  ): Promise<({ next: { logits: Map<number, number> } } | undefined)[]>
}

const require = createRequire(new URL('../../bench/package.json', import.meta.url))

/** Why llama.cpp can't be used here, or undefined if it can. */
export function llamaCppMissing(): string | undefined {
  try {
    require.resolve('node-llama-cpp')
    return undefined
  } catch {
    return 'node-llama-cpp is not installed; run `npm install --no-save --prefix bench`'
  }
}

async function withModel<T>(path: string, use: (model: LoadedModel) => Promise<T>): Promise<T> {
  const library: Library = await import(pathToFileURL(require.resolve('node-llama-cpp')).href)
  // Only the prebuilt CPU library: nothing is fetched or compiled.
  const llama = await library.getLlama({
    gpu: false,
    build: 'never',
    skipDownload: true,
    logLevel: library.LlamaLogLevel.error,
  })
  try {
    return await use(await llama.loadModel({ modelPath: path, gpuLayers: 0, useMmap: false }))
  } finally {
    await llama.dispose()
  }
}

/**
 * Evaluates up to `count` tokens, piece by piece. f32 KV and plain attention, so that only f32 rounding separates the
 * logits from exact ones.
 */
async function evaluator(
  model: LoadedModel,
  count: number,
): Promise<(tokens: readonly number[]) => Promise<Float64Array[]>> {
  const context = await model.createContext({
    // One more: node-llama-cpp drops old tokens as soon as the context is full.
    contextSize: count + 1,
    batchSize: count + 1,
    threads: 1,
    flashAttention: false,
    experimentalKvCacheKeyType: 'F32',
    experimentalKvCacheValueType: 'F32',
  })
  const sequence = context.getSequence()
  return async (tokens) => {
    // Temperature 1 and no cut leave the logits as the model made them.
    const options = { temperature: 1, topK: 0, topP: 1, minP: 0 }
    const results = await sequence.controlledEvaluate(
      tokens.map((token) => [token, { generateNext: { logits: true, options } }]),
    )
    return results.map((result) => {
      const { logits } = result!.next
      const out = new Float64Array(logits.size)
      for (const [token, logit] of logits) out[token] = logit
      return out
    })
  }
}

/** Logits [vocab] after each of the tokens. */
export const llamaCppLogits = (ggufPath: string, tokens: readonly number[]): Promise<Float64Array[]> =>
  withModel(ggufPath, async (model) => (await evaluator(model, tokens.length))(tokens))

/** `count` tokens that follow the prompt, each the one with the largest logit (the first of equal ones). */
export const llamaCppGreedy = (
  ggufPath: string,
  promptTokens: readonly number[],
  count: number,
): Promise<number[]> =>
  withModel(ggufPath, async (model) => {
    const evaluate = await evaluator(model, promptTokens.length + count)
    const out: number[] = []
    for (let next = promptTokens; out.length < count; next = [out.at(-1)!]) {
      const logits = (await evaluate(next)).at(-1)!
      out.push(logits.indexOf(logits.reduce((a, b) => Math.max(a, b))))
    }
    return out
  })

/** Ids of a text by llama.cpp's tokenizer, without special tokens added. */
export const llamaCppTokens = (ggufPath: string, text: string): Promise<number[]> =>
  withModel(ggufPath, async (model) => [...model.tokenize(text)])
