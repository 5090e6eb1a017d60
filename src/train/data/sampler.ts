import { check } from '../../errors.ts'
import { philox4x32 } from '../../tensor/philox.ts'
import type { Dataset } from './dataset.ts'
import { permute } from './permutation.ts'
import { tokenRange } from './tokens.ts'

export interface SamplerOptions {
  /** Rows per batch, B. */
  readonly batch: number
  /** Tokens per row, L. */
  readonly length: number
  readonly seed: number
  readonly split?: 'train' | 'validation'
  /** Default `'shuffled'` for training and `'sequential'` for validation. */
  readonly order?: 'shuffled' | 'sequential'
  /** Count positions from each document's start instead of from the row's; default false. */
  readonly resetPositions?: boolean
}

/** B rows of L tokens; all arrays are [B * L], row by row. */
export interface Batch {
  readonly tokens: Uint32Array
  /** The token that follows each. */
  readonly targets: Uint32Array
  /** 1 where the target counts in the loss, else 0: not to be learned, or the first of another document. */
  readonly weights: Float32Array
  /** The sum of `weights`; the loss is the weighted sum divided by it. It can be 0. */
  readonly counted: number
  /** Number of the document within its row, from 0. Tokens should attend to equal numbers only. */
  readonly documents: Uint32Array
  /** Position of each token for the model, from 0. */
  readonly positions: Uint32Array
}

/** Keeps the draws of offsets apart from those of the permutation. */
const OFFSET_STREAM = 0x6f666600

/**
 * Batches as a pure function of (dataset, options, cursor): the only state of sampling is one integer, the number of
 * rows taken so far, so resuming is exact, also with another batch size.
 *
 * An epoch goes through non-overlapping windows of L tokens (a row needs one more, its last target).
 * - sequential: all whole windows from the start of the split, every epoch the same
 * - shuffled: each epoch starts at another offset and takes the windows in another order, both named by seed and
 *   epoch. To make room for the offset an epoch has one window less than fits (but at least one); every token is
 *   still reached in other epochs.
 */
export class Sampler {
  /** Windows per epoch. */
  readonly windows: number
  private readonly start: number
  /** Shuffled epochs begin up to so many tokens after `start`. */
  private readonly slack: number
  private readonly shuffled: boolean
  private readonly key: readonly number[]

  /**
   * @throws ExactmapError `invalid_argument` for options that are no positive integers, or a split shorter than one
   *   window
   */
  constructor(
    private readonly dataset: Dataset,
    private readonly options: SamplerOptions,
  ) {
    const { batch, length, seed, split = 'train' } = options
    for (const [name, value] of Object.entries({ batch, length }))
      check(
        Number.isSafeInteger(value) && value > 0,
        'invalid_argument',
        `${name} must be a positive integer, got ${value}`,
      )
    check(
      Number.isSafeInteger(seed) && seed >= 0,
      'invalid_argument',
      `seed must be an integer from 0, got ${seed}`,
    )
    const { start, end } = dataset[split]
    const tokens = end - start
    const fit = Math.floor((tokens - 1) / length)
    check(
      fit >= 1,
      'invalid_argument',
      `the ${split} data has ${tokens} tokens; a window of ${length} needs ${length + 1}: shorten it or give more data`,
    )
    this.shuffled = (options.order ?? (split === 'train' ? 'shuffled' : 'sequential')) === 'shuffled'
    this.windows = this.shuffled ? Math.max(1, fit - 1) : fit
    this.start = start
    this.slack = tokens - 1 - this.windows * length
    this.key = [seed >>> 0, Math.floor(seed / 2 ** 32)]
  }

  /** The batch of a step: rows `step * B` to `step * B + B - 1`. */
  batch(step: number): Promise<Batch> {
    return this.at(step * this.options.batch)
  }

  /** B rows from row number `cursor` on. */
  async at(cursor: number): Promise<Batch> {
    check(
      Number.isSafeInteger(cursor) && cursor >= 0,
      'invalid_argument',
      `cursor must be an integer from 0, got ${cursor}`,
    )
    const { batch, length, resetPositions = false } = this.options
    const size = batch * length
    const [tokens, targets, weights] = [new Uint32Array(size), new Uint32Array(size), new Float32Array(size)]
    const [documents, positions] = [new Uint32Array(size), new Uint32Array(size)]
    const window = tokenRange(length + 1)
    let counted = 0
    for (let row = 0; row < batch; row++) {
      await this.dataset.read(this.windowStart(cursor + row), window)
      const at = row * length
      tokens.set(window.tokens.subarray(0, length), at)
      targets.set(window.tokens.subarray(1), at)
      for (let i = 0, document = 0, begin = 0; i < length; i++) {
        if (i > 0 && window.starts[i]) {
          document++
          begin = i
        }
        documents[at + i] = document
        positions[at + i] = resetPositions ? i - begin : i
        // Nothing in this document says how the next one begins.
        const weight = window.starts[i + 1] ? 0 : window.weights[i + 1]!
        weights[at + i] = weight
        counted += weight
      }
    }
    return { tokens, targets, weights, counted, documents, positions }
  }

  /** Where in the dataset row number `row` begins. */
  windowStart(row: number): number {
    const { length } = this.options
    const index = row % this.windows
    if (!this.shuffled) return this.start + index * length
    const epoch = Math.floor(row / this.windows)
    const [draw] = philox4x32([0, 0, epoch, OFFSET_STREAM], this.key)
    const offset = Math.floor((draw / 2 ** 32) * (this.slack + 1))
    return this.start + offset + permute(index, this.windows, this.key, epoch) * length
  }
}
