/** What decoding over pages is, for the choice of splits. */
export interface DecodeShape {
  /** Blocks without splits: rows by key heads by groups of query heads. */
  readonly blocks: number
  /** Pages that a row may see. */
  readonly pages: number
  /** Bytes of one key head's keys and values in a page. */
  readonly pageBytes: number
  /** Bytes of the sums and statistics that a split leaves, all rows together. */
  readonly sumsBytes: number
}

/**
 * The numbers behind the choice, for a Hopper at 1.83 GHz. Predicted, not measured.
 * - resident: blocks of attention_paged_decode that a multiprocessor has registers for
 * - memory: bytes a cycle that each multiprocessor gets when all read, of 4.8 TB/s
 * - block: bytes a cycle that a block takes alone: four warps, each some 1,600 cycles for a step of 4 KB
 * - merge: cycles that attention_paged_merge adds to a step, one microsecond from launch to launch
 */
const hardware = { resident: 3, memory: 20, block: 10, merge: 1830 }

/** Cycles of decoding with so many splits: rounds of blocks that fill the GPU, the last one partly, and the merge. */
export function decodeCycles(shape: DecodeShape, splits: number, multiprocessors: number): number {
  const room = hardware.resident * multiprocessors
  const bytes = Math.ceil(shape.pages / splits) * shape.pageBytes
  const round = (blocks: number): number =>
    Math.max((blocks * bytes) / (hardware.memory * multiprocessors), blocks > 0 ? bytes / hardware.block : 0)
  const all = shape.blocks * splits
  const rounds = Math.floor(all / room) * round(room) + round(all % room)
  const joined = splits > 1 ? (2 * splits * shape.sumsBytes) / (hardware.memory * multiprocessors) : 0
  return rounds + joined + (splits > 1 ? hardware.merge : 0)
}

/**
 * Splits of each row's tokens: the number that is predicted to be done first, of equal ones the smallest, where every row
 * sees all the pages that it may. How many it does see is known at run time only; they are dealt out evenly then.
 */
export function splitsOf(shape: DecodeShape, multiprocessors: number): number {
  let best = 1
  let least = decodeCycles(shape, 1, multiprocessors)
  // No more than give every multiprocessor its blocks: others would only add sums.
  const most = Math.min(shape.pages, Math.ceil((hardware.resident * multiprocessors) / shape.blocks) + 1)
  for (let splits = 2; splits <= most; splits++) {
    const cycles = decodeCycles(shape, splits, multiprocessors)
    if (cycles < least) [best, least] = [splits, cycles]
  }
  return best
}
