import type { Roofline } from '../../backends/backend.ts'
import type { LaunchWork } from '../program/work.ts'

/** The least time a device can take for some work, and which of its limits that is. */
export interface Least {
  readonly seconds: number
  readonly bound: 'memory' | 'arithmetic'
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

/** Least time of launches that follow each other; their limit is the one that most of it is due to. */
export function sumOfLeast(all: readonly Least[]): Least {
  const of = (list: readonly Least[]): number => list.reduce((sum, { seconds }) => sum + seconds, 0)
  const seconds = of(all)
  const arithmetic = of(all.filter(({ bound }) => bound === 'arithmetic'))
  return { seconds, bound: 2 * arithmetic > seconds ? 'arithmetic' : 'memory' }
}
