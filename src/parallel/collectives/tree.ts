import type { Value } from '../../ops/contract.ts'
import { byteSize } from '../../tensor/type.ts'
import type { CollectiveAlgorithm, CollectiveCall, Pair, Round } from './algorithm.ts'
import { count, exchange } from './messages.ts'

/**
 * Whole tensors between ever more distant members: few steps, for what is small enough that latency decides.
 * Cost for n members and B bytes, in steps and bytes sent by each:
 *
 *     all_reduce       log2 n steps, log2 n B: recursive doubling, where n is a power of two
 *                      otherwise 2 + floor(log2 n) steps: with r = n - 2^floor(log2 n), members 2i and 2i+1 for i < r
 *                      first add theirs at 2i, which takes part for both and hands 2i+1 the result at the end
 *     rank_broadcast   ceil(log2 n) steps, as many times B from the root: binomial tree
 *
 * Thakur, Rabenseifner, Gropp 2005, "Optimization of collective communication operations in MPICH".
 *
 * Sums: neighbouring ranges of members are added in pairs, lower + upper: (x0 + x1) + (x2 + x3) for n = 4,
 * ((x0 + x1) + x2) + (x3 + x4) for n = 5. Every member computes this same expression, which depends on n only.
 */
export const tree: CollectiveAlgorithm = {
  name: 'tree',
  memberOrder: false,

  all_reduce: {
    lower(call, x) {
      const { g, self, size } = call
      const { levels, folded } = shapeOf(size)
      const add = (a: Value, b: Value): Value => g.op('add', {}, { a, b }).y!
      if (self < 2 * folded && self % 2 === 1) {
        send(call, self - 1, x)
        return receive(call, self - 1, x)
      }
      const isFolding = self < 2 * folded
      const own = isFolding ? self / 2 : self - folded
      let y = isFolding ? add(x, receive(call, self + 1, x)) : x
      for (let level = 0; level < levels; level++) {
        const other = own ^ (2 ** level)
        const theirs = swapWhole(call, memberAt(other, folded), y)
        y = own < other ? add(y, theirs) : add(theirs, y)
      }
      if (isFolding) send(call, self + 1, y)
      return y
    },
    rounds({ size }, bytes) {
      const { levels, folded } = shapeOf(size)
      const round = (pairs: readonly Pair[]): Round => ({ times: 1, bytes, messages: { pairs } })
      const doubling = count(levels).map((level) =>
        round(
          count(2 ** levels).map((v) => [memberAt(v, folded), memberAt(v ^ (2 ** level), folded)] as const),
        ),
      )
      if (folded === 0) return doubling
      const pairs = count(folded).map((i) => [2 * i + 1, 2 * i] as const)
      return [round(pairs), ...doubling, round(pairs.map(([odd, even]) => [even, odd] as const))]
    },
  },

  rank_broadcast: {
    lower(call, x) {
      const { root, self, size } = call
      // Seen from the root, members below 2^k have x before round k, and each gives it to the one 2^k further.
      const distance = (self - root + size) % size
      let y = x
      for (let span = 1; span < size; span *= 2) {
        if (distance < span && distance + span < size) send(call, (self + span) % size, y)
        if (distance >= span && distance < 2 * span) y = receive(call, (self - span + size) % size, x)
      }
      return y
    },
    rounds({ root, size }, bytes) {
      const rounds: Round[] = []
      for (let span = 1; span < size; span *= 2) {
        const senders = count(Math.min(span, size - span)).map((distance) => (root + distance) % size)
        const pairs = senders.map((from) => [from, (from + span) % size] as const)
        rounds.push({ times: 1, bytes, messages: { pairs } })
      }
      return rounds
    },
  },
}

/** Levels of recursive doubling, and how many members another one stands for. */
function shapeOf(size: number): { readonly levels: number; readonly folded: number } {
  const levels = Math.floor(Math.log2(size))
  return { levels, folded: size - 2 ** levels }
}

/** Member number of the v-th that takes part in recursive doubling. */
const memberAt = (v: number, folded: number): number => (v < folded ? 2 * v : v + folded)

const whole = (peer: number, port: string, { type }: Value) => ({
  peer,
  port,
  offset: 0,
  bytes: byteSize(type),
})

function send(call: CollectiveCall, peer: number, x: Value): void {
  exchange(call, { x }, {}, { sends: [whole(peer, 'x', x)], receives: [] })
}

/** What the peer sends, of x's type. x stays an input also of members that only receive. */
const receive = (call: CollectiveCall, peer: number, x: Value): Value =>
  exchange(call, { x }, { y: x.type }, { sends: [], receives: [whole(peer, 'y', x)] }).y!

const swapWhole = (call: CollectiveCall, peer: number, x: Value): Value =>
  exchange(call, { x }, { y: x.type }, { sends: [whole(peer, 'x', x)], receives: [whole(peer, 'y', x)] }).y!
