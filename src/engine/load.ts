import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import type { Device, Executable, LoadOptions } from '../../backends/backend.ts'
import { check, ExactmapError } from '../errors.ts'
import { parseJson } from '../formats/json.ts'
import { openModelFolder } from '../formats/model_folder.ts'
import { loadTokenizer, StreamDecoder, type Tokenizer } from '../formats/tokenizer.ts'
import { familyOf } from '../models/index.ts'
import type { ModelFamily, ModelShape } from '../models/model.ts'
import { writeWeights } from '../models/weights.ts'
import { agree } from '../parallel/agreement.ts'
import { loadForRank } from '../parallel/load_for_rank.ts'
import { compile } from '../program/compile.ts'
import { hashOf } from '../program/hash.ts'
import type { Program } from '../program/program.ts'
import { version } from '../version.ts'
import { type InferenceOptions, inferenceSpec } from './defaults.ts'
import { Generator } from './generator.ts'
import { type InferenceSpec, inferenceGraph } from './inference_graph.ts'
import { communicatorOf, type InferenceRank, wholeModel } from './ranks.ts'
import type { SamplingOptions } from './sampling.ts'
import type { Session } from './session.ts'
import { DECODE, predictDecode } from './whole_step.ts'

export interface LoadModelOptions extends Omit<InferenceOptions, 'prompt'> {
  readonly device: Device
  /** The longest prompt, where it is known: only the prefill segments it needs are compiled. */
  readonly prompt?: string
  /** This rank of several that share the model; all of them load it, and are asked the same in the same order. */
  readonly rank?: InferenceRank
  /** Decode steps as one kernel where gaps between launches are predicted to matter; CUDA only. */
  readonly wholeStep?: boolean
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
  /** Its decode step runs as one kernel: that was asked for, and predicted to be worth its while. */
  readonly wholeStep: boolean
  /** Text pieces as they come; never half a character. Stops at the end token, `maxTokens` or a full context. */
  generate(prompt: string, options?: GenerateOptions): AsyncGenerator<string>
  /** The same from where a session of this model stands; `generator.session()` gives one. */
  resume(session: Session, options?: GenerateOptions): AsyncGenerator<string>
  destroy(): Promise<void>
}

/**
 * Loads a Hugging Face model folder (config.json, safetensors, tokenizer.json) onto a device: compiles the
 * inference program, allocates its arenas once, streams the weights in; of several ranks each its part of them.
 *
 * @throws ExactmapError `not_found`, `invalid_format`, `invalid_config`, `unsupported` (architecture: lists the
 *   supported ones; a step that can't be one kernel: names the launch), `out_of_memory` (with the memory table, before anything is allocated), `conflict` (ranks that
 *   differ, by name)
 */
export async function loadModel(path: string, options: LoadModelOptions): Promise<Model> {
  const { device, onProgress, rank } = options
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
    const { prompt, wholeStep, ...sizes } = options
    const spec = inferenceSpec(config, {
      ...sizes,
      ...(prompt === undefined ? {} : { prompt: tokenizer.encode(prompt).length }),
    })
    if (rank) {
      const facts = { plan: rank.hash, model: hashOf([folder.config, spec]), build: version }
      await agree(rank.transport, facts, { host: hostname() })
    }
    const graph = inferenceGraph(`${family.name}-inference`, family, config, spec, rank)
    const program = compile(graph, device.target)
    const prediction = wholeStep ? predictDecode(program, spec) : undefined
    check(
      !wholeStep || prediction,
      'unsupported',
      `a step as one kernel needs a CUDA device; ${device.info.device} runs steps as lists of launches`,
    )
    const load: LoadOptions = {
      ...(prediction?.whole ? { whole: [DECODE] } : {}),
      ...(onProgress
        ? { onProgress: (done, total, what) => onProgress(`compiling ${what}`, done, total) }
        : {}),
    }
    const executable = rank
      ? await loadForRank(device, program, { ...load, communicator: communicatorOf(rank) })
      : await device.load(program, load)
    const weights = executable.arenas.weights!
    const { grid, place } = rank ?? wholeModel
    const all = family.parameters(config)
    await writeWeights(
      rank ? all.filter(({ name }) => weights.plan.tensors.some((t) => t.name === name)) : all,
      folder.weights,
      weights.plan,
      (offset, bytes) => weights.write(offset, bytes),
      onProgress && ((done, total) => onProgress('reading weights', done, total)),
      { size: grid.tensor, member: place.tensor },
    )
    const generator = new Generator(device, executable, spec, rank && { rank, vocab: config.vocab })
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
      wholeStep: prediction?.whole ?? false,
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
