import type { Device, Executable } from '../../backends/backend.ts'
import { check } from '../errors.ts'
import { PAGE_TOKENS } from '../kv_cache/layout.ts'
import { PagePool } from '../kv_cache/page_pool.ts'
import type { ActivationFormat } from './activations.ts'
import { type InferenceSpec, pagesOf, segmentOfPrefill } from './inference_graph.ts'
import { firstIdOf, type InferenceRank, tokenOnEveryRank } from './ranks.ts'
import { type SamplingOptions, samplingRow, seedWords } from './sampling.ts'
import { captureSession, restoreSession, type Session } from './session.ts'

const NONE = 0xffffffff
/** Decode steps submitted before the first one's token is read. */
const IN_FLIGHT = 2

export type GeneratorOptions = SamplingOptions & {
  readonly maxTokens: number
  /** Tokens that end the generation; they are not yielded. */
  readonly stop?: readonly number[]
}

/**
 * Decodes one sequence on a loaded inference program. Sampled ids stay on the device; the host reads them late. Of several
 * ranks each has a Generator of its own, and all must be asked the same in the same order: tokens come out on every rank.
 */
export class Generator {
  private readonly inputs: Record<string, Uint32Array | Float32Array>
  private readonly pool: PagePool
  /** Tokens of the last sequence, and the pages it had. */
  private last: { readonly tokens: readonly number[]; readonly pages: Uint32Array } | undefined
  /** Bytes of the last read logits, when the program declares them and this rank samples. */
  logits: Uint8Array | undefined

  constructor(
    readonly device: Device,
    readonly executable: Executable,
    private readonly spec: InferenceSpec,
    /** Of several ranks this one, and how many tokens the model knows. */
    private readonly many?: { readonly rank: InferenceRank; readonly vocab: number },
  ) {
    const { batch, context } = spec
    this.pool = new PagePool(pagesOf(spec), Math.ceil(context / PAGE_TOKENS))
    this.inputs = {
      page_table: new Uint32Array(batch * Math.ceil(context / PAGE_TOKENS)),
      length: new Uint32Array(batch),
      options: new Float32Array(batch * 8),
      key: new Uint32Array(batch * 4),
      sampled_sequence: new Uint32Array(batch),
      sampled_position: new Uint32Array(batch),
      first_id: Uint32Array.of(many ? firstIdOf(many.rank, many.vocab) : 0),
    }
  }

  private get activations(): ActivationFormat {
    return this.spec.activations ?? 'f32'
  }

  /** Smallest bucket that holds the rows, or the largest. */
  private bucket(rows: number): number {
    return this.spec.prefill.find((b) => b >= rows) ?? this.spec.prefill.at(-1)!
  }

  /**
   * Yields sampled token ids, the first after the prompt. Stops after `maxTokens`, at a token of `stop` (which is
   * not yielded) or when the context is full. The prompt must have 1 to context - 1 tokens.
   */
  async *generate(prompt: readonly number[], options: GeneratorOptions): AsyncGenerator<number> {
    const { context } = this.spec
    check(prompt.length > 0, 'invalid_argument', 'the prompt is empty; give at least one token')
    check(
      prompt.length < context,
      'invalid_argument',
      `the prompt has ${prompt.length} tokens, the context of ${context} leaves room for ${context - 1} and one new token`,
    )
    yield* this.decodeFrom(prompt, options, (sequence, low, high) =>
      this.prefill(sequence, prompt, low, high),
    )
  }

  /**
   * The last sequence as it stands: its prompt, the tokens that were yielded, and the cache, of several ranks this one's
   * part of it. Valid after a `generate` or `resume` ended and until the next one begins.
   *
   * @throws ExactmapError `invalid_argument` before the first sequence
   */
  session(): Promise<Session> {
    check(this.last, 'invalid_argument', 'there is no session yet; generate something first')
    const { tokens, pages } = this.last
    return captureSession(this.executable.arenas.kv, tokens, this.activations, pages)
  }

  /**
   * Goes on with a session, of this or any other backend: yields what `generate` would have yielded next.
   *
   * @throws ExactmapError `conflict` for a session of another model or other activations, `invalid_argument` where the context is too short
   */
  async *resume(session: Session, options: GeneratorOptions): AsyncGenerator<number> {
    const { tokens } = session
    const { context } = this.spec
    check(
      tokens.length < context,
      'invalid_argument',
      `the session has ${tokens.length} tokens, the context of ${context} leaves no room; load with a longer context`,
    )
    const { state, kv } = this.executable.arenas
    yield* this.decodeFrom(tokens, options, async (sequence, low, high) => {
      this.pool.grow(sequence, tokens.length)
      restoreSession(kv, session, this.activations, this.pool.row(sequence))
      // Row 0 of the token history, which is with the last stage.
      const history = state?.plan.tensors.find((t) => t.name === 'tokens')
      if (history) state!.write(history.offset, new Uint8Array(Uint32Array.from(tokens).buffer))
      return this.decode(sequence, tokens.length - 1, low, high)
    })
  }

  /** Yields tokens after `known`, the first from `first`, the others from decode steps; records the sequence. */
  private async *decodeFrom(
    known: readonly number[],
    { maxTokens, stop = [], ...sampling }: GeneratorOptions,
    first: (sequence: number, low: number, high: number) => Promise<number | undefined>,
  ): AsyncGenerator<number> {
    const { context } = this.spec
    check(
      Number.isInteger(maxTokens) && maxTokens > 0,
      'invalid_argument',
      `max tokens must be a positive whole number, got ${maxTokens}`,
    )
    const tokens = [...known]
    const sequence = this.pool.open()
    const pending: Promise<number | undefined>[] = []
    const submit = (work: Promise<number | undefined>): void => {
      // It may fail while the caller still looks at an earlier token: reported when its turn comes, not unhandled.
      work.catch(() => {})
      pending.push(work)
    }
    try {
      this.inputs.options!.set(samplingRow(sampling))
      const [low, high] = seedWords(sampling.seed)
      const limit = Math.min(maxTokens, context - known.length)
      submit(first(sequence, low, high))
      for (let produced = 0, submitted = 1; produced < limit; produced++) {
        // Keep a few steps in flight: the next input token is on the device already.
        for (; submitted < limit && pending.length < IN_FLIGHT; submitted++)
          submit(this.decode(sequence, known.length + submitted - 1, low, high))
        const sampled = await pending.shift()!
        const token = this.many ? await tokenOnEveryRank(this.many.rank, sampled) : sampled!
        if (stop.includes(token)) return
        tokens.push(token)
        yield token
      }
    } finally {
      await Promise.allSettled(pending)
      this.last = { tokens, pages: this.pool.row(sequence) }
      this.pool.close(sequence)
    }
  }

  private setStep(sequence: number, end: number, low: number, high: number, sampled: boolean): void {
    const { inputs } = this
    this.pool.grow(sequence, end)
    inputs.page_table!.set(this.pool.row(sequence))
    ;(inputs.length as Uint32Array).fill(0)[0] = end
    inputs.key!.set([low, high, end, 0])
    ;(inputs.sampled_sequence as Uint32Array).fill(NONE)
    if (sampled) inputs.sampled_sequence![0] = 0
    inputs.sampled_position![0] = end
  }

  private async prefill(
    sequence: number,
    prompt: readonly number[],
    low: number,
    high: number,
  ): Promise<number | undefined> {
    let token: number | undefined
    for (let start = 0; start < prompt.length; ) {
      const rows = this.bucket(prompt.length - start)
      const count = Math.min(rows, prompt.length - start)
      const last = start + count === prompt.length
      this.setStep(sequence, start + count, low, high, last && prompt.length < this.spec.context)
      const ids = new Uint32Array(rows)
      const sequences = new Uint32Array(rows).fill(NONE)
      const positions = new Uint32Array(rows)
      for (let i = 0; i < count; i++) {
        ids[i] = prompt[start + i]!
        sequences[i] = 0
        positions[i] = start + i
      }
      const which = new Uint32Array(this.spec.batch)
      which[0] = count - 1
      const inputs = {
        ...this.inputs,
        [`ids_${rows}`]: ids,
        [`sequence_${rows}`]: sequences,
        [`position_${rows}`]: positions,
        rows: which,
      }
      if (last) token = await this.read(segmentOfPrefill(rows), inputs)
      else this.executable.run(segmentOfPrefill(rows), this.declared(segmentOfPrefill(rows), inputs))
      start += count
    }
    return token
  }

  private decode(sequence: number, position: number, low: number, high: number): Promise<number | undefined> {
    const { batch, context } = this.spec
    this.setStep(sequence, position + 1, low, high, position + 1 < context)
    const sequences = new Uint32Array(batch).fill(NONE)
    const positions = new Uint32Array(batch)
    sequences[0] = 0
    positions[0] = position
    return this.read('decode', { ...this.inputs, sequence: sequences, position: positions })
  }

  /** The inputs a segment has: a model without attention reads no page table, a rank only what its part needs. */
  private declared(
    segment: string,
    inputs: Record<string, ArrayBufferView>,
  ): Record<string, ArrayBufferView> {
    const { inputs: known } = this.executable.program.segments.find((s) => s.name === segment)!
    return Object.fromEntries(known.map(({ name }) => [name, inputs[name]!]))
  }

  /** The sampled token, where this rank samples. */
  private async read(segment: string, inputs: Record<string, ArrayBufferView>): Promise<number | undefined> {
    const { token, logits } = await this.executable.step(segment, this.declared(segment, inputs))
    this.logits = logits
    return token && new Uint32Array(token.buffer, token.byteOffset, 1)[0]!
  }
}
