import type { ExchangeAttributes } from '../../ops/collectives/exchange.ts'
import type { Ports, Value } from '../../ops/contract.ts'
import { byteSize, type TensorType } from '../../tensor/type.ts'
import type { CollectiveCall } from './algorithm.ts'

// What algorithms are made of. None of it looks at the own member number.

type Group = Pick<CollectiveCall, 'g' | 'group' | 'size' | 'channel'>
type Messages = ExchangeAttributes['sends']

/** A range of a tensor in bytes. */
export interface Part {
  readonly offset: number
  readonly bytes: number
}

/** 0 to n - 1: all members of a group of n. */
export const count = (n: number): number[] => Array.from({ length: n }, (_, i) => i)

/** Cuts elements of four bytes into n parts, as even as can be: of floor(elements / n) elements or one more. */
export function partsOf(elements: number, n: number): Part[] {
  const start = (i: number): number => 4 * Math.floor((i * elements) / n)
  return count(n).map((i) => ({ offset: start(i), bytes: start(i + 1) - start(i) }))
}

/** One exchange: its outputs by port. */
export const exchange = (
  { g, group, size, channel }: Group,
  inputs: Ports<Value>,
  outputs: Ports<TensorType>,
  messages: { readonly sends: Messages; readonly receives: Messages },
): Record<string, Value> => g.op('exchange', { group, size, channel, ...messages, outputs }, inputs)

/** The whole of x to every peer, theirs one after the other; the j-th peer's is as large as part j. */
export function gather(
  call: Group,
  peers: readonly number[],
  x: Value,
  type: TensorType,
  parts: readonly Part[],
): Value {
  const whole = { port: 'x', offset: 0, bytes: byteSize(x.type) }
  return exchange(
    call,
    { x },
    { y: type },
    {
      sends: peers.map((peer) => ({ peer, ...whole })),
      receives: peers.map((peer, j) => ({ peer, port: 'y', ...parts[j]! })),
    },
  ).y!
}

/** Part j of x to the j-th peer, what they give one after the other; all of it is as large. */
export function swap(
  call: Group,
  peers: readonly number[],
  x: Value,
  parts: readonly Part[],
  type: TensorType,
): Value {
  const bytes = byteSize(type) / peers.length
  return exchange(
    call,
    { x },
    { y: type },
    {
      sends: peers.map((peer, j) => ({ peer, port: 'x', ...parts[j]! })),
      receives: peers.map((peer, j) => ({ peer, port: 'y', offset: j * bytes, bytes })),
    },
  ).y!
}

/** Sums along the leading dim, in order. */
export const sum = ({ g }: Pick<Group, 'g'>, x: Value): Value =>
  g.op('reduce', { kind: 'sum', axis: 'first' }, { x }).y!
