import { type Child, expectField } from './child.ts'
import { type Agreement, agreementOf, type Expected, expectedOf } from './expected.ts'
import type { Work } from './works.ts'

/** One engine's figures for one work. */
export type Measured =
  | { readonly missing: string }
  | {
      /** Milliseconds: the fastest round, and the middle one. */
      readonly best: number
      readonly median: number
      readonly rounds: readonly number[]
      readonly notes?: string
      readonly facts?: Readonly<Record<string, number>>
    }

/** A run in a round takes about this long: submitting and waiting hardly count, and a round meets one state of the machine. */
const ENOUGH_MS = 150
const MOST_TIMES = 400
/** All rounds of a work together take about so many seconds, but there are at least three. */
const ENOUGH_SECONDS = 90
const LEAST_ROUNDS = 3
/** Engines decode ahead of what they give out: one token alone says little. */
const LEAST_TOKENS = 8

export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** A wrong result's time means nothing. */
async function checkValues(child: Child, { indices, values, tolerance }: Expected): Promise<void> {
  const all = expectField(await child.ask({ ask: 'sample', indices }), 'values')
  values.forEach((want, i) => {
    const [got, allowed] = [all[i]!, tolerance(want)]
    if (!(Math.abs(got - want) <= allowed))
      throw new Error(
        `wrong result: element ${indices[i]} is ${got}, expected ${want} within ${allowed.toExponential(1)}`,
      )
  })
}

/** What to hold engines to that come after the first, where no formula says it. */
async function resultsOf(child: Child, { indices, relative }: Agreement): Promise<Expected> {
  const values = expectField(await child.ask({ ask: 'sample', indices }), 'values')
  return { indices, values, tolerance: (want) => Math.abs(want) * relative }
}

/**
 * Prepares a work in every engine, checks their results, then lets them take turns: each round every engine runs once.
 * An engine that fails is left out with its reason; the others go on.
 */
export async function measure(
  work: Work,
  children: readonly Child[],
  rounds: number,
  onProgress: (what: string) => void = () => {},
): Promise<Map<string, Measured>> {
  const results = new Map<string, Measured>()
  const agreement = agreementOf(work)
  const least = work.kind === 'decode' ? LEAST_TOKENS : 1
  let expected = expectedOf(work)
  const running: { child: Child; times: number; notes: string | undefined; all: number[] }[] = []
  let roundMs = 0
  for (const child of children) {
    onProgress(`${child.label}: preparing`)
    try {
      const prepared = await child.ask({ ask: 'prepare', work })
      if ('unsupported' in prepared) {
        results.set(child.label, { missing: prepared.unsupported })
        continue
      }
      const { notes } = expectField(prepared, 'ready')
      // The first run may still compile; the second says how often to repeat.
      expectField(await child.ask({ ask: 'run', times: agreement?.times ?? 1 }), 'ms')
      if (expected) await checkValues(child, expected)
      else if (agreement) expected = await resultsOf(child, agreement)
      const once = expectField(await child.ask({ ask: 'run', times: least }), 'ms')
      const times = Math.min(MOST_TIMES, Math.max(least, Math.round(ENOUGH_MS / once)))
      running.push({ child, times, notes, all: [] })
      roundMs += times * once
    } catch (error) {
      results.set(child.label, { missing: (error as Error).message })
      await child.ask({ ask: 'release' })
    }
  }
  const enough = Math.max(LEAST_ROUNDS, Math.ceil((ENOUGH_SECONDS * 1000) / roundMs))
  const turns = Math.min(rounds, enough)
  for (let round = 0; round < turns; round++)
    for (const one of running) {
      onProgress(`round ${round + 1} of ${turns}: ${one.child.label}`)
      const answer = await one.child.ask({ ask: 'run', times: one.times })
      if ('ms' in answer) one.all.push(answer.ms)
      else results.set(one.child.label, { missing: 'error' in answer ? answer.error : 'no figure' })
    }
  for (const { child, notes, all } of running) {
    const released = await child.ask({ ask: 'release' })
    if (results.has(child.label)) continue
    const facts = 'released' in released ? released.released.facts : undefined
    results.set(child.label, {
      best: Math.min(...all),
      median: median(all),
      rounds: all,
      ...(notes === undefined ? {} : { notes }),
      ...(facts === undefined ? {} : { facts }),
    })
  }
  return results
}

/** How many times faster `ours` is than `theirs`: the middle of the rounds' ratios, in which both met the same machine. */
export function ratioOf(ours: Measured, theirs: Measured): number | undefined {
  if ('missing' in ours || 'missing' in theirs) return undefined
  return median(ours.rounds.map((ms, i) => theirs.rounds[i]! / ms))
}
