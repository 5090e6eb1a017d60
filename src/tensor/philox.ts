/**
 * Philox4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"
 * (SC 2011). The same stream exists in `kernels-wgsl/lib/philox.wgsl`; both are checked against the paper's
 * known-answer vectors.
 */
const M0 = 0xd2511f53
const M1 = 0xcd9e8d57
const W0 = 0x9e3779b9
const W1 = 0xbb67ae85

/** High word of a 32 x 32 bit product, from 16-bit halves (doubles hold every partial sum exactly). */
function mulHigh(a: number, b: number): number {
  const [aLow, aHigh, bLow, bHigh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16]
  const middle = aHigh * bLow + Math.floor((aLow * bLow) / 65536)
  const carry = aLow * bHigh + (middle % 65536)
  return aHigh * bHigh + Math.floor(middle / 65536) + Math.floor(carry / 65536)
}

/** One block: four u32 from a 128-bit counter and a 64-bit key (arrays of u32). */
export function philox4x32(
  counter: readonly number[],
  key: readonly number[],
): [number, number, number, number] {
  let [c0, c1, c2, c3] = [counter[0]! >>> 0, counter[1]! >>> 0, counter[2]! >>> 0, counter[3]! >>> 0]
  let [k0, k1] = [key[0]! >>> 0, key[1]! >>> 0]
  for (let round = 0; round < 10; round++) {
    const [hi0, lo0] = [mulHigh(M0, c0), Math.imul(M0, c0) >>> 0]
    const [hi1, lo1] = [mulHigh(M1, c2), Math.imul(M1, c2) >>> 0]
    c0 = (hi1 ^ c1 ^ k0) >>> 0
    c1 = lo1
    c2 = (hi0 ^ c3 ^ k1) >>> 0
    c3 = lo0
    k0 = (k0 + W0) >>> 0
    k1 = (k1 + W1) >>> 0
  }
  return [c0, c1, c2, c3]
}

/** A u32 as a float in [0, 1) with 24 bits, exact in f32. */
export const uniformFromBits = (bits: number): number => (bits >>> 8) * 2 ** -24

/** A sequential stream over Philox blocks; `seed` is the key, `stream` the upper half of the counter. */
export class Philox {
  private block: number[] = []
  private counter = 0
  constructor(
    readonly seed: number,
    readonly stream = 0,
  ) {}
  nextU32(): number {
    if (this.block.length === 0) {
      const low = this.counter >>> 0
      const high = Math.floor(this.counter / 2 ** 32)
      this.block = philox4x32(
        [low, high, this.stream >>> 0, 0],
        [this.seed >>> 0, Math.floor(this.seed / 2 ** 32)],
      ).reverse()
      this.counter++
    }
    return this.block.pop()!
  }
  /** Uniform in [0, 1), 24 bits. */
  uniform(): number {
    return uniformFromBits(this.nextU32())
  }
  /** Uniform integer in [0, n), n at most 2^32. */
  integer(n: number): number {
    return Math.floor((this.nextU32() / 2 ** 32) * n)
  }
  /**
   * A bell-shaped value with mean 0 and standard deviation 1: the sum of twelve uniforms minus six
   * (Irwin-Hall). Uses only additions, so every engine gives the same bits.
   */
  normal(): number {
    let sum = -6
    for (let i = 0; i < 12; i++) sum += this.uniform()
    return sum
  }
}
