import { check } from '../../errors.ts'

/** A run of tokens with what is known about each; the three arrays have one length. */
export interface TokenRange {
  readonly tokens: Uint32Array
  /** 1 where the token is to be learned, 0 where it is only context. */
  readonly weights: Uint8Array
  /** 1 where a document begins. */
  readonly starts: Uint8Array
}

/** A sequence of tokens that is read by ranges. */
export interface TokenSource {
  /** In tokens. */
  readonly length: number
  /** Positions where documents are known to begin, ascending; files of bare tokens know only 0. */
  readonly documents: ArrayLike<number>
  /** Fills `into` with the tokens from `start` on. `start` + the range's length must not pass `length`. */
  read(start: number, into: TokenRange): Promise<void>
  close(): Promise<void>
}

/** Part of a document. */
export interface TokenPiece {
  readonly ids: ArrayLike<number>
  readonly weight: 0 | 1
}

export const tokenRange = (length: number): TokenRange => ({
  tokens: new Uint32Array(length),
  weights: new Uint8Array(length),
  starts: new Uint8Array(length),
})

const part = ({ tokens, weights, starts }: TokenRange, from: number, to: number): TokenRange => ({
  tokens: tokens.subarray(from, to),
  weights: weights.subarray(from, to),
  starts: starts.subarray(from, to),
})

/** How many items of the ascending list are below `value`. */
export function countBelow(list: ArrayLike<number>, value: number): number {
  let [low, high] = [0, list.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if (list[middle]! < value) low = middle + 1
    else high = middle
  }
  return low
}

/** Documents in memory: collects them, then is a source. 5 bytes per token. */
export class MemoryTokens implements TokenSource {
  length = 0
  readonly documents: number[] = []
  private tokens = new Uint32Array(1 << 12)
  private weights = new Uint8Array(1 << 12)

  /** A document from pieces that are learned (weight 1) or only read (0); one without tokens leaves no trace. */
  addDocument(pieces: readonly TokenPiece[]): void {
    if (pieces.every(({ ids }) => ids.length === 0)) return
    this.documents.push(this.length)
    for (const { ids, weight } of pieces) this.add(ids, weight)
  }

  private add(ids: ArrayLike<number>, weight: 0 | 1): void {
    const length = this.length + ids.length
    if (length > this.tokens.length) {
      const room = Math.max(length, 2 * this.tokens.length)
      const [tokens, weights] = [new Uint32Array(room), new Uint8Array(room)]
      tokens.set(this.tokens)
      weights.set(this.weights)
      this.tokens = tokens
      this.weights = weights
    }
    this.tokens.set(ids, this.length)
    this.weights.fill(weight, this.length, length)
    this.length = length
  }

  async read(start: number, { tokens, weights, starts }: TokenRange): Promise<void> {
    const end = start + tokens.length
    tokens.set(this.tokens.subarray(start, end))
    weights.set(this.weights.subarray(start, end))
    starts.fill(0)
    for (
      let d = countBelow(this.documents, start);
      d < this.documents.length && this.documents[d]! < end;
      d++
    )
      starts[this.documents[d]! - start] = 1
  }

  async close(): Promise<void> {}
}

/** Several sources one after the other; each begins a document. */
export class JoinedTokens implements TokenSource {
  readonly length: number
  readonly documents: Float64Array
  private readonly begins: number[] = []

  constructor(private readonly sources: readonly TokenSource[]) {
    let length = 0
    for (const source of sources) {
      this.begins.push(length)
      length += source.length
    }
    this.length = length
    this.documents = new Float64Array(sources.reduce((sum, source) => sum + source.documents.length, 0))
    let at = 0
    sources.forEach((source, s) => {
      for (let d = 0; d < source.documents.length; d++)
        this.documents[at++] = this.begins[s]! + source.documents[d]!
    })
  }

  async read(start: number, into: TokenRange): Promise<void> {
    const end = start + into.tokens.length
    check(start >= 0 && end <= this.length, 'internal', `tokens ${start} to ${end} of ${this.length}`)
    for (let s = countBelow(this.begins, start + 1) - 1, at = start; at < end; s++) {
      const [begin, source] = [this.begins[s]!, this.sources[s]!]
      const upTo = Math.min(end, begin + source.length)
      await source.read(at - begin, part(into, at - start, upTo - start))
      at = upTo
    }
  }

  async close(): Promise<void> {
    for (const source of this.sources) await source.close()
  }
}
