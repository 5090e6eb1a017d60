import type { Roofline } from '../../backends/backend.ts'
import type { LiveRow } from '../ops/contract.ts'
import { opContract } from '../ops/index.ts'
import { type Launch, opCall, type Range } from '../program/program.ts'

/** What a launch does at least, whatever its kernel. */
export interface LaunchWork {
  readonly bytesRead: number
  readonly bytesWritten: number
  readonly flops: number
}

/** The least time a device can take for some work, and which of its limits that is. */
export interface Least {
  readonly seconds: number
  readonly bound: 'memory' | 'arithmetic'
}

const within = (part: Range, whole: Range): boolean =>
  part.arena === whole.arena &&
  part.offset >= whole.offset &&
  part.offset + part.bytes <= whole.offset + whole.bytes

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
  for (const binding of bindings) {
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

/**
 * Least time for some work: memory at the rate of the largest measured range that is no larger than what is touched (a
 * launch that is repeated finds its bytes in the cache they fit in), arithmetic at its rate; the two can overlap.
 * A rate that a larger range reached holds for smaller ones too.
 */
export function leastTime({ bytesRead, bytesWritten, flops }: LaunchWork, roofline: Roofline): Least {
  const { memory, flopsPerSecond } = roofline
  const smaller = memory.findLastIndex(({ bytes }) => bytes <= bytesRead + bytesWritten)
  const from = memory.slice(Math.max(0, smaller))
  const best = (kind: 'read' | 'write'): number => Math.max(...from.map((rates) => rates[kind]))
  const bytesTime = bytesRead / best('read') + bytesWritten / best('write')
  const flopsTime = flops / flopsPerSecond
  return flopsTime > bytesTime
    ? { seconds: flopsTime, bound: 'arithmetic' }
    : { seconds: bytesTime, bound: 'memory' }
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

/** Least time of launches that follow each other; their limit is the one that most of it is due to. */
export function sumOfLeast(all: readonly Least[]): Least {
  const of = (list: readonly Least[]): number => list.reduce((sum, { seconds }) => sum + seconds, 0)
  const seconds = of(all)
  const arithmetic = of(all.filter(({ bound }) => bound === 'arithmetic'))
  return { seconds, bound: 2 * arithmetic > seconds ? 'arithmetic' : 'memory' }
}
