import type { NodeBuilder, Value } from '../../ops/contract.ts'
import { stack } from './direct.ts'

/**
 * The members' columns side by side, on every member: [R, C] each become [R, n C]. Rows of different members lie apart, so
 * several rows are turned before and after the messages: two launches of 8 n C R bytes, against n - 1 messages a row.
 */
export function gatherColumns(
  { g, group, size }: { readonly g: NodeBuilder; readonly group: string; readonly size: number },
  x: Value,
): Value {
  if (size === 1) return x
  const [rows, columns] = x.type.shape as readonly [number, number]
  const call = { g, group, size, channel: 0 }
  if (rows === 1) return stack(call, x, { ...x.type, shape: [1, size * columns] })
  const turned = (value: Value): Value => g.op('transpose', { permutation: [1, 0] }, { x: value }).y!
  return turned(stack(call, turned(x), { ...x.type, shape: [size * columns, rows] }))
}
