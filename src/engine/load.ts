import { readFile } from 'node:fs/promises'
import type { Device, Executable } from '../../backends/backend.ts'
import { check, ExactmapError } from '../errors.ts'
import { parseJson } from '../formats/json.ts'
import { openModelFolder } from '../formats/model_folder.ts'
import { loadTokenizer, StreamDecoder, type Tokenizer } from '../formats/tokenizer.ts'
import { familyOf } from '../models/index.ts'
import type { ModelFamily, ModelShape } from '../models/model.ts'
import { writeWeights } from '../models/weights.ts'
import { compile } from '../program/compile.ts'
import type { Program } from '../program/program.ts'
import { type InferenceOptions, inferenceSpec } from './defaults.ts'
import { Generator } from './generator.ts'
import { type InferenceSpec, inferenceGraph } from './inference_graph.ts'
import type { SamplingOptions } from './sampling.ts'
import type { Session } from './session.ts'

export interface LoadModelOptions extends Omit<InferenceOptions, 'prompt'> {
  readonly device: Device
  /** The longest prompt, where it is known: only the prefill segments it needs are compiled. */
  readonly prompt?: string
  readonly onProgress?: (what: string, done: number, total: number) => void
}

export interface GenerateOptions extends SamplingOptions {
  readonly maxTokens?: number
  /** Called for every sampled id, before its text is given out. */
  readonly onToken?: (id: number) => void
}

/** A model on a device, ready to generate. */
export interface Model {
  readonly family: ModelFamily
  readonly config: ModelShape
  readonly spec: InferenceSpec
  readonly tokenizer: Tokenizer
  readonly program: Program
  readonly executable: Executable
  readonly generator: Generator
  /** Text pieces as they come; never half a character. Stops at the end token, `maxTokens` or a full context. */
  generate(prompt: string, options?: GenerateOptions): AsyncGenerator<string>
  /** The same from where a session of this model stands; `generator.session()` gives one. */
  resume(session: Session, options?: GenerateOptions): AsyncGenerator<string>
  destroy(): Promise<void>
}

/**
 * Loads a Hugging Face model folder (config.json, safetensors, tokenizer.json) onto a device: compiles the
 * inference program, allocates its arenas once, streams the weights in.
 *
 * @throws ExactmapError `not_found`, `invalid_format`, `invalid_config`, `unsupported` (architecture: lists the
 *   supported ones), `out_of_memory` (with the memory table, before anything is allocated)
 */
export async function loadModel(path: string, options: LoadModelOptions): Promise<Model> {
  const { device, onProgress } = options
  const folder = await openModelFolder(path)
  try {
    const family = familyOf(folder.config)
    const config = family.parse(folder.config)
    if (!folder.files.tokenizer)
      throw new ExactmapError('not_found', 'the model folder has no tokenizer.json', { file: folder.path })
    const { tokenizerConfig } = folder.files
    const tokenizer = loadTokenizer(
      await readFile(folder.files.tokenizer),
      tokenizerConfig && parseJson(await readFile(tokenizerConfig), tokenizerConfig),
    )
    const { prompt, ...sizes } = options
    const spec = inferenceSpec(config, {
      ...sizes,
      ...(prompt === undefined ? {} : { prompt: tokenizer.encode(prompt).length }),
    })
    const program = compile(inferenceGraph(`${family.name}-inference`, family, config, spec), device.target)
    const executable = await device.load(
      program,
      onProgress ? { onProgress: (done, total, what) => onProgress(`compiling ${what}`, done, total) } : {},
    )
    const weights = executable.arenas.weights!
    const { names, info, read } = folder.weights
    await writeWeights(
      family.parameters(config),
      { names, info, read },
      weights.plan,
      (offset, bytes) => weights.write(offset, bytes),
      onProgress && ((done, total) => onProgress('reading weights', done, total)),
    )
    const generator = new Generator(device, executable, spec)
    async function* text(
      ids: AsyncIterable<number>,
      onToken: GenerateOptions['onToken'],
    ): AsyncGenerator<string> {
      const decoder = new StreamDecoder(tokenizer)
      for await (const id of ids) {
        onToken?.(id)
        const piece = decoder.push(id)
        if (piece) yield piece
      }
      const rest = decoder.flush()
      if (rest) yield rest
    }
    const stop = tokenizer.eos === undefined ? [] : [tokenizer.eos]
    return {
      family,
      config,
      spec,
      tokenizer,
      program,
      executable,
      generator,
      async *generate(prompt, { maxTokens = 128, onToken, ...sampling } = {}) {
        const ids = [...tokenizer.encode(prompt)]
        const strange = ids.find((id) => id >= config.vocab)
        check(
          strange === undefined,
          'invalid_argument',
          () =>
            `the prompt has token ${strange}, the model only has ${config.vocab}: tokenizer.json belongs to another model`,
        )
        yield* text(generator.generate(ids, { maxTokens, stop, ...sampling }), onToken)
      },
      resume: (session, { maxTokens = 128, onToken, ...sampling } = {}) =>
        text(generator.resume(session, { maxTokens, stop, ...sampling }), onToken),
      async destroy() {
        executable.destroy()
      },
    }
  } finally {
    await folder.close()
  }
}
