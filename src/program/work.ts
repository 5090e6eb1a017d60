import type { LiveRow } from '../ops/contract.ts'
import { opContract } from '../ops/index.ts'
import { type Launch, opCall, type Range } from './program.ts'

/** What a launch does at least, whatever its kernel. */
export interface LaunchWork {
  readonly bytesRead: number
  readonly bytesWritten: number
  readonly flops: number
}

const within = (part: Range, whole: Range): boolean =>
  part.arena === whole.arena &&
  part.offset >= whole.offset &&
  part.offset + part.bytes <= whole.offset + whole.bytes

/** Each once, though a kernel may have a range both as a matrix of quants and as a pointer to the scales behind them. */
const distinct = (bindings: Launch['bindings']): Iterable<Launch['bindings'][number]> =>
  new Map(bindings.map((one) => [`${one.arena} ${one.offset} ${one.bytes} ${one.access}`, one])).values()

/**
 * Bytes and flops of a launch: everything it binds once, but for ops that look rows or pages up, which say themselves
 * what they touch.
 *
 * @param rows of the segment that are no padding; matters to what attends to a cache
 */
export function launchWork({ call, bindings, flops }: Launch, rows: readonly LiveRow[]): LaunchWork {
  const contract = opContract(call.op)
  const types = opCall(call)
  const work = contract.work?.(types, rows)
  const operands = Object.entries({ ...call.outputs, ...call.inputs })
  let [bytesRead, bytesWritten] = [0, 0]
  for (const binding of distinct(bindings)) {
    const looked = operands.find(([port, operand]) => port in (work?.bytes ?? {}) && within(binding, operand))
    const touched = looked ? Math.min(1, work!.bytes[looked[0]]! / looked[1].bytes) : 1
    if (binding.access !== 'write') bytesRead += binding.bytes * touched
    if (binding.access !== 'read') bytesWritten += binding.bytes * touched
  }
  const all = contract.flops(types)
  return {
    bytesRead,
    bytesWritten,
    flops: work?.flops === undefined || all === 0 ? flops : (flops * work.flops) / all,
  }
}

/** Work of several launches together. */
export const sumOfWork = (works: readonly LaunchWork[]): LaunchWork =>
  works.reduce(
    (sum, work) => ({
      bytesRead: sum.bytesRead + work.bytesRead,
      bytesWritten: sum.bytesWritten + work.bytesWritten,
      flops: sum.flops + work.flops,
    }),
    { bytesRead: 0, bytesWritten: 0, flops: 0 },
  )
