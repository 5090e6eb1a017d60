import { check } from '../errors.ts'

/** Bytes that must be kept from step `first` to step `last` (both included). */
export interface Lifetime {
  readonly bytes: number
  readonly first: number
  readonly last: number
}

export interface MemoryPlan {
  readonly offsets: readonly number[]
  /** Bytes needed when every tensor lies at its offset. */
  readonly bytes: number
  /** The largest sum of bytes alive at one step: no plan can need less. */
  readonly lowerBound: number
}

const alignUp = (value: number, alignment: number): number => Math.ceil(value / alignment) * alignment

/** Largest sum of (aligned) bytes alive at the same step. */
export function liveBytes(lifetimes: readonly Lifetime[], alignment: number): number {
  const change = new Map<number, number>()
  for (const { bytes, first, last } of lifetimes) {
    const size = alignUp(bytes, alignment)
    change.set(first, (change.get(first) ?? 0) + size)
    change.set(last + 1, (change.get(last + 1) ?? 0) - size)
  }
  let [now, most] = [0, 0]
  for (const step of [...change.keys()].sort((a, b) => a - b)) {
    now += change.get(step)!
    most = Math.max(most, now)
  }
  return most
}

/** Places tensors in the given order, each at the lowest offset free during its whole life. */
function place(
  lifetimes: readonly Lifetime[],
  order: readonly number[],
  alignment: number,
  chunk: number,
): MemoryPlan {
  const offsets = new Array<number>(lifetimes.length).fill(0)
  const placed: number[] = []
  let total = 0
  for (const i of order) {
    const { bytes, first, last } = lifetimes[i]!
    const neighbours = placed
      .filter((j) => lifetimes[j]!.first <= last && first <= lifetimes[j]!.last)
      .sort((a, b) => offsets[a]! - offsets[b]!)
    let offset = 0
    const inOneChunk = (at: number): number =>
      Math.floor(at / chunk) === Math.floor((at + bytes - 1) / chunk) ? at : alignUp(at, chunk)
    for (const j of neighbours) {
      if (inOneChunk(offset) + bytes <= offsets[j]!) break
      offset = Math.max(offset, alignUp(offsets[j]! + lifetimes[j]!.bytes, alignment))
    }
    offsets[i] = inOneChunk(offset)
    placed.push(i)
    total = Math.max(total, offsets[i]! + alignUp(bytes, alignment))
  }
  return { offsets, bytes: total, lowerBound: 0 }
}

/**
 * Offline placement of tensors with known lifetimes (dynamic storage allocation, NP-hard): the best of a few
 * greedy orders. Deterministic. `chunk` is the largest device buffer; no tensor crosses a multiple of it.
 */
export function planMemory(lifetimes: readonly Lifetime[], alignment: number, chunk: number): MemoryPlan {
  for (const { bytes } of lifetimes)
    check(
      bytes <= chunk,
      'out_of_memory',
      `a tensor of ${bytes} bytes does not fit a device buffer of ${chunk} bytes`,
    )
  const lowerBound = liveBytes(lifetimes, alignment)
  const span = (l: Lifetime): number => l.last - l.first + 1
  const keys: ((l: Lifetime) => number)[] = [
    (l) => -l.bytes,
    (l) => -l.bytes * span(l),
    (l) => -span(l),
    (l) => l.first,
    (l) => -l.last,
  ]
  let best: MemoryPlan | undefined
  for (const key of keys) {
    const order = lifetimes.map((_, i) => i).sort((a, b) => key(lifetimes[a]!) - key(lifetimes[b]!) || a - b)
    const plan = place(lifetimes, order, alignment, chunk)
    if (!best || plan.bytes < best.bytes) best = plan
    if (best.bytes === lowerBound) break
  }
  return { ...best!, lowerBound }
}
