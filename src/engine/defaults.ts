import { check } from '../errors.ts'
import type { ModelShape } from '../models/model.ts'
import { checkActivations } from './activations.ts'
import type { InferenceSpec } from './inference_graph.ts'

/** What a user may choose of an inference program; the rest follows from the model. */
export interface InferenceOptions {
  /** Longest sequence in tokens; default the model's own, at most 2,048. */
  readonly context?: number
  /** Longest prompt to expect in tokens; default the context. Fewer prefill segments have to be compiled. */
  readonly prompt?: number
  /** Sequences that decode together; default 1. */
  readonly batch?: number
  /** Storage of weight matrices; default f16. */
  readonly weights?: InferenceSpec['weights']
  /** Storage of the KV cache; default f16. */
  readonly kv?: InferenceSpec['kv']
  /** What products, attention and gates read; default f32. */
  readonly activations?: InferenceSpec['activations']
  /** Declare the logits as outputs. */
  readonly logits?: boolean
}

/** Rows of the prefill segments: up to the first that holds the longest prompt; more goes through in pieces. */
const BUCKETS = [16, 64, 256]
/**
 * A prompt known to be this short goes through row by row, by the kernels decoding needs anyway: compiling others
 * takes a software driver seconds, the rows take it milliseconds.
 */
const ONE_BY_ONE = 16

export function inferenceSpec(config: ModelShape, options: InferenceOptions = {}): InferenceSpec {
  const {
    context = Math.min(config.context, 2048),
    batch = 1,
    weights = 'f16',
    kv = 'f16',
    activations = 'f32',
    logits = false,
  } = options
  check(
    Number.isInteger(context) && context > 1 && context <= config.context,
    'invalid_argument',
    `context must be between 2 and the model's ${config.context} tokens, got ${context}`,
  )
  check(
    Number.isInteger(batch) && batch > 0 && batch <= 4096,
    'invalid_argument',
    `batch must be between 1 and 4096, got ${batch}`,
  )
  checkActivations(activations, weights)
  const longest = Math.min(context, options.prompt ?? context)
  const enough = BUCKETS.findIndex((b) => b >= longest)
  const buckets = enough < 0 ? BUCKETS : BUCKETS.slice(0, enough + 1)
  const prefill = options.prompt !== undefined && longest <= ONE_BY_ONE ? [1] : buckets
  return { context, batch, prefill, weights, kv, activations, logits }
}
