import { philox4x32 } from '../../tensor/philox.ts'

const ROUNDS = 4
/** Smaller domains give a Feistel network too few different permutations. */
const MIN_BITS = 6

/**
 * Where item `index` of [0, n) goes in a pseudorandom permutation of [0, n) named by `key` and `number` (an epoch):
 * one item at a time, without a table, so that n may be billions.
 *
 * A balanced Feistel network with Philox as its round function (Luby and Rackoff 1988) permutes the next domain of
 * 4^h items; values outside [0, n) are sent through it again until they fall inside ("cycle walking", Black and
 * Rogaway 2002), which keeps it one to one and takes below four turns on average (n >= 16).
 *
 * @param n at most 2^52
 */
export function permute(index: number, n: number, key: readonly number[], number: number): number {
  let bits = MIN_BITS
  while (2 ** bits < n) bits += 2
  const size = 2 ** (bits / 2)
  let value = index
  do {
    let left = Math.floor(value / size)
    let right = value % size
    for (let round = 0; round < ROUNDS; round++) {
      const [noise] = philox4x32([right, round, number, PERMUTATION_STREAM], key)
      ;[left, right] = [right, (left ^ noise) & (size - 1)]
    }
    value = left * size + right
  } while (value >= n)
  return value
}

/** Keeps these draws apart from those of other users of the same seed (weights, dropout, sampling). */
const PERMUTATION_STREAM = 0x70657200
