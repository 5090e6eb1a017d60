import type { Ports, Value } from '../../ops/contract.ts'
import { byteSize, elementCount, type TensorType } from '../../tensor/type.ts'
import type { CollectiveAlgorithm, CollectiveCall, Round } from './algorithm.ts'
import { direct } from './direct.ts'
import { count, exchange, type Part, partsOf } from './messages.ts'

/**
 * Every member talks to its two neighbours only: chunks travel around the ring, summed or stored at every stop.
 * Cost for n members and B bytes a member, in steps and bytes sent by each:
 *
 *     all_reduce       2 (n-1) steps, 2 (n-1)/n B
 *     reduce_scatter   n-1 steps, (n-1)/n B
 *     all_gather       n-1 steps, (n-1) B
 *
 * The bytes of `direct`, with one message at a time, for links without a switch between all; scratch is two chunks.
 * Patarasu and Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations".
 *
 * Sums: an element of chunk c is ((x[c+1] + x[c+2]) + …) + x[c], member numbers modulo n, and its bytes are made once
 * and passed on. So the order depends on n and on where the element is in the tensor. all_reduce cuts elements that n
 * does not divide into chunks that differ by one; fewer than n of them are summed by `direct`.
 */
export const ring: CollectiveAlgorithm = {
  name: 'ring',
  memberOrder: false,

  all_reduce: {
    lower(call, x) {
      const elements = elementCount(x.type.shape)
      if (elements < call.size) return direct.all_reduce.lower(call, x)
      const chunks = partsOf(elements, call.size)
      return gather(
        call,
        reduce(call, x, chunks, ({ bytes }) => [bytes / 4]),
        x.type,
        chunks,
      )
    },
    rounds(call, bytes) {
      const { size } = call
      if (bytes / 4 < size) return direct.all_reduce.rounds(call, bytes)
      // In every round some member sends the largest chunk.
      return [around(size, 4 * Math.ceil(bytes / 4 / size), 2 * (size - 1))]
    },
  },

  reduce_scatter: {
    lower(call, x) {
      const [rows, ...rest] = x.type.shape
      const chunks = partsOf(elementCount(x.type.shape), call.size)
      return reduce(call, x, chunks, () => [rows! / call.size, ...rest])
    },
    rounds: ({ size }, bytes) => [around(size, bytes / size, size - 1)],
  },

  all_gather: {
    lower(call, x) {
      const [rows, ...rest] = x.type.shape
      const type = { ...x.type, shape: [rows! * call.size, ...rest] }
      return gather(call, x, type, partsOf(elementCount(type.shape), call.size))
    },
    rounds: ({ size }, bytes) => [around(size, bytes, size - 1)],
  },
}

/** Chunk c sets out from member c+1, has every member's added where it passes, and ends at member c. */
function reduce(
  call: CollectiveCall,
  x: Value,
  chunks: readonly Part[],
  shapeOf: (chunk: Part) => readonly number[],
): Value {
  const { g, self, size } = call
  const { previous, next } = neighbours(call)
  const chunk = (number: number): Part => chunks[modulo(number, size)]!
  let sum: Value | undefined
  for (let step = 0; step < size - 1; step++) {
    const taken = chunk(self - 2 - step)
    const type = { ...x.type, shape: shapeOf(taken) }
    const whole = { offset: 0, bytes: taken.bytes }
    const sent = sum
      ? { port: 'sum', offset: 0, bytes: byteSize(sum.type) }
      : { port: 'x', ...chunk(self - 1) }
    const { passed, own } = exchange(
      call,
      sum ? { x, sum } : { x },
      { passed: type, own: type },
      {
        sends: [
          { peer: next, ...sent },
          { peer: self, port: 'x', ...taken },
        ],
        receives: [
          { peer: previous, port: 'passed', ...whole },
          { peer: self, port: 'own', ...whole },
        ],
      },
    )
    sum = g.op('add', {}, { a: passed, b: own }).y!
  }
  return sum!
}

/** Every member's chunk goes all the way around, written where it belongs in y and sent on from there. */
function gather(call: CollectiveCall, x: Value, type: TensorType, chunks: readonly Part[]): Value {
  const { self, size } = call
  const { previous, next } = neighbours(call)
  const whole = { port: 'x', offset: 0, bytes: byteSize(x.type) }
  let y: Value | undefined
  for (let step = 0; step < size - 1; step++) {
    const taken = { peer: previous, port: 'y', ...chunks[modulo(self - 1 - step, size)]! }
    const inputs: Ports<Value> = y ? { onto: y } : { x }
    const messages = y
      ? { sends: [{ peer: next, port: 'onto', ...chunks[modulo(self - step, size)]! }], receives: [taken] }
      : {
          sends: [
            { peer: next, ...whole },
            { peer: self, ...whole },
          ],
          receives: [{ peer: self, port: 'y', ...chunks[self]! }, taken],
        }
    y = exchange(call, inputs, { y: type }, messages).y!
  }
  return y!
}

const modulo = (a: number, n: number): number => ((a % n) + n) % n

const neighbours = ({ self, size }: CollectiveCall): { previous: number; next: number } => ({
  previous: modulo(self - 1, size),
  next: modulo(self + 1, size),
})

const around = (size: number, bytes: number, times: number): Round => ({
  times,
  bytes,
  messages: { pairs: count(size).map((member) => [member, (member + 1) % size] as const) },
})
