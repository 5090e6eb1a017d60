import type { Range, Step } from './program.ts'

interface Use extends Range {
  readonly writes: boolean
}

/** Byte ranges a step reads and writes. */
export function usesOfStep(step: Step): Use[] {
  if (step.kind === 'transfer')
    return [
      { ...step.from, writes: false },
      { ...step.to, writes: true },
    ]
  if (step.kind === 'exchange')
    return [
      ...step.sends.map((m) => ({ ...m, writes: false })),
      ...step.receives.map((m) => ({ ...m, writes: true })),
    ]
  return step.bindings.map((b) => ({ ...b, writes: b.access !== 'read' }))
}

const overlap = (a: Range, b: Range): boolean =>
  a.arena === b.arena && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes

const conflict = (a: readonly Use[], b: readonly Use[]): boolean =>
  a.some((x) => b.some((y) => (x.writes || y.writes) && overlap(x, y)))

/** Exchanges on one channel take place in the same order on every member. */
export const sameChannel = (a: Step, b: Step): boolean =>
  a.kind === 'exchange' && b.kind === 'exchange' && a.group === b.group && a.channel === b.channel

/**
 * Which earlier steps each step must wait for, from the byte ranges they touch (read after write, write after
 * read, write after write) and the channels they use, without those that follow from others.
 */
export function dependencies(steps: readonly Step[]): number[][] {
  const uses = steps.map(usesOfStep)
  const words = Math.ceil(steps.length / 32)
  const reach = steps.map(() => new Uint32Array(words))
  return steps.map((_, i) => {
    const after: number[] = []
    const reached = reach[i]!
    for (let j = i - 1; j >= 0; j--) {
      if ((reached[j >> 5]! >>> (j & 31)) & 1) continue
      if (!conflict(uses[i]!, uses[j]!) && !sameChannel(steps[i]!, steps[j]!)) continue
      after.push(j)
      reached[j >> 5]! |= 1 << (j & 31)
      for (let w = 0; w < words; w++) reached[w]! |= reach[j]![w]!
    }
    return after.reverse()
  })
}
