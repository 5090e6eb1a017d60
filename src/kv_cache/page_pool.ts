import { check, ExactmapError } from '../errors.ts'
import { PAGE_TOKENS } from './layout.ts'

interface Sequence {
  /** Tokens the sequence has room for being written. */
  length: number
  /** Pages before this one have gone back to the pool. */
  released: number
  readonly table: Uint32Array
}

/**
 * Who owns which cache page: bookkeeping on the host, no bytes. The page that was freed last is handed
 * out first, so equal histories of calls give equal page tables.
 */
export class PagePool {
  private readonly free: number[]
  private readonly sequences = new Map<number, Sequence>()
  private next = 0

  /**
   * @param pages pages in the pool
   * @param pagesPerSequence width of a page table row: the longest sequence has 64 times as many tokens
   */
  constructor(
    readonly pages: number,
    readonly pagesPerSequence: number,
  ) {
    check(
      Number.isInteger(pages) && pages > 0 && Number.isInteger(pagesPerSequence) && pagesPerSequence > 0,
      'invalid_argument',
      `a page pool needs positive whole numbers of pages, got ${pages} and ${pagesPerSequence} per sequence`,
    )
    this.free = Array.from({ length: pages }, (_, i) => pages - 1 - i)
  }

  /** Pages that are not owned by any sequence. */
  get available(): number {
    return this.free.length
  }

  /** Starts an empty sequence and returns its number; numbers are not used twice. */
  open(): number {
    this.sequences.set(this.next, { length: 0, released: 0, table: new Uint32Array(this.pagesPerSequence) })
    return this.next++
  }

  /**
   * Makes room for the sequence to have `length` tokens; a shorter length than before changes nothing.
   * Throws `invalid_argument` past the page table, `out_of_memory` when the pool is empty; then nothing changed.
   */
  grow(id: number, length: number): void {
    const sequence = this.get(id)
    const capacity = this.pagesPerSequence * PAGE_TOKENS
    check(
      Number.isInteger(length) && length >= 0 && length <= capacity,
      'invalid_argument',
      () =>
        `sequence ${id} can have 0 to ${capacity} tokens, got ${length}; open the cache with a longer context`,
    )
    if (length <= sequence.length) return
    const held = Math.ceil(sequence.length / PAGE_TOKENS)
    const needed = Math.ceil(length / PAGE_TOKENS)
    if (needed - held > this.free.length)
      throw new ExactmapError(
        'out_of_memory',
        `sequence ${id} needs ${needed - held} more cache pages of ${PAGE_TOKENS} tokens, ${this.free.length} of ${this.pages} are free; close a sequence or load with more pages`,
      )
    for (let page = held; page < needed; page++) sequence.table[page] = this.free.pop()!
    sequence.length = length
  }

  /**
   * Gives back the pages that hold only tokens before `position`, for layers with a window. The sequence keeps
   * its length; entries of the page table that were given back must not be read any more.
   */
  release(id: number, position: number): void {
    const sequence = this.get(id)
    check(
      Number.isInteger(position) && position >= 0 && position <= sequence.length,
      'invalid_argument',
      () => `sequence ${id} has ${sequence.length} tokens, tokens before ${position} can't be released`,
    )
    const end = Math.floor(position / PAGE_TOKENS)
    for (; sequence.released < end; sequence.released++) {
      this.free.push(sequence.table[sequence.released]!)
      sequence.table[sequence.released] = 0
    }
  }

  /** Tokens the sequence has room for. */
  length(id: number): number {
    return this.get(id).length
  }

  /** Page table row: entry p is the page of tokens 64 p to 64 p + 63; 0 where the sequence holds none. A copy. */
  row(id: number): Uint32Array {
    return this.get(id).table.slice()
  }

  /** Ends a sequence; its pages are free again. */
  close(id: number): void {
    const sequence = this.get(id)
    for (let page = Math.ceil(sequence.length / PAGE_TOKENS) - 1; page >= sequence.released; page--)
      this.free.push(sequence.table[page]!)
    this.sequences.delete(id)
  }

  private get(id: number): Sequence {
    const sequence = this.sequences.get(id)
    check(sequence, 'not_found', () => `the page pool has no open sequence ${id}`)
    return sequence
  }
}
