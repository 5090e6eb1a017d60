import type { Value } from '../../ops/contract.ts'
import { byteSize, elementCount, type TensorType } from '../../tensor/type.ts'
import type { CollectiveAlgorithm, CollectiveCall } from './algorithm.ts'

/**
 * Every member exchanges with every other one at once. All members run the same steps and add in member order, so the
 * result is independent of who adds. Bytes sent by each are the least possible (all_reduce: 2 (n-1)/n of the tensor);
 * the n-1 messages of a step need a switch between all members, such as NVLink's, not a ring.
 */
export const direct = {
  name: 'direct',

  /** Parts to their owners, sums back; where the elements don't divide, everything to everyone. */
  all_reduce(call, x) {
    if (elementCount(x.type.shape) % call.size !== 0)
      return sum(call, gather(call, x, [call.size, ...x.type.shape]))
    const rows: TensorType = { ...x.type, shape: [call.size, elementCount(x.type.shape) / call.size] }
    const own = sum(call, swap(call, x, rows))
    return gather(call, own, x.type.shape)
  },

  reduce_scatter(call, x) {
    const [rows, ...rest] = x.type.shape
    return sum(call, swap(call, x, { ...x.type, shape: [call.size, rows! / call.size, ...rest] }))
  },

  all_gather(call, x) {
    const [rows, ...rest] = x.type.shape
    return gather(call, x, [rows! * call.size, ...rest])
  },

  all_to_all: (call, x) => swap(call, x, x.type),

  rank_broadcast({ root, self, ...call }, x) {
    const bytes = byteSize(x.type)
    const members = Array.from({ length: call.size }, (_, peer) => peer)
    return exchange(call, x, x.type, {
      sends: self === root ? members.map((peer) => ({ peer, port: 'x', offset: 0, bytes })) : [],
      receives: [{ peer: root, port: 'y', offset: 0, bytes }],
    })
  },
} satisfies CollectiveAlgorithm

/** The whole of x to every member: stacked in member order. */
export function gather(call: Omit<CollectiveCall, 'self'>, x: Value, shape: readonly number[]): Value {
  const bytes = byteSize(x.type)
  return exchange(
    call,
    x,
    { ...x.type, shape },
    {
      sends: members(call).map((peer) => ({ peer, port: 'x', offset: 0, bytes })),
      receives: members(call).map((peer) => ({ peer, port: 'y', offset: peer * bytes, bytes })),
    },
  )
}

/** Part j of x to member j. */
function swap(call: Omit<CollectiveCall, 'self'>, x: Value, type: TensorType): Value {
  const bytes = byteSize(x.type) / call.size
  return exchange(call, x, type, {
    sends: members(call).map((peer) => ({ peer, port: 'x', offset: peer * bytes, bytes })),
    receives: members(call).map((peer) => ({ peer, port: 'y', offset: peer * bytes, bytes })),
  })
}

const members = ({ size }: { readonly size: number }): number[] => Array.from({ length: size }, (_, i) => i)

/** One exchange of `x` for a tensor of `type`. */
export function exchange(
  { g, group, size, channel }: Omit<CollectiveCall, 'self'>,
  x: Value,
  type: TensorType,
  messages: Record<
    'sends' | 'receives',
    readonly {
      readonly peer: number
      readonly port: 'x' | 'y'
      readonly offset: number
      readonly bytes: number
    }[]
  >,
): Value {
  return g.op('exchange', { group, size, channel, ...messages, outputs: { y: type } }, { x }).y!
}

/** Sums along the leading dim, in order. */
const sum = ({ g }: { readonly g: CollectiveCall['g'] }, x: Value): Value =>
  g.op('reduce', { kind: 'sum', axis: 'first' }, { x }).y!
