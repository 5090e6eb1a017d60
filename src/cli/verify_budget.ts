import type { Device } from '../../backends/backend.ts'
import { candidateOf, chooseCases } from '../verify/choice.ts'
import { type CostTables, costLookup, costTableFor } from '../verify/costs.ts'
import { type Vector, vectorId } from '../verify/vector.ts'

/** What `--budget` made of a round's vectors: seconds, and counts of cases. */
export interface BudgetReport {
  readonly seconds: number
  readonly chosen: number
  readonly of: number
  /** With empty compile caches, which is what must fit, and with those that an earlier run kept. */
  readonly estimated: { readonly cold: number; readonly kept: number }
  /** The least that has every op with every storage format; runs where the budget is smaller. */
  readonly minimum: number
  /** Cases per op that do not run. */
  readonly leftOut: Readonly<Record<string, number>>
  /** The driver that the costs were measured on; none where nothing was measured. */
  readonly costsOf: string | undefined
}

export interface Budgeted {
  readonly vectors: readonly Vector[]
  readonly budget: BudgetReport
}

/** Chooses from vectors what fits into a budget in seconds. One without a program on the device always runs: it says why. */
export function withinBudget(
  device: Device,
  vectors: readonly Vector[],
  seconds: number,
  costs: CostTables,
): Budgeted {
  const table = costTableFor(costs, device.info.driver)
  const costOf = costLookup(table)
  const candidates = vectors.flatMap((v) => candidateOf(v, device, costOf) ?? [])
  const { ids, estimate, minimum } = chooseCases(candidates, seconds * 1000)
  const rest = new Set(candidates.map(({ id }) => id).filter((id) => !ids.has(id)))
  const leftOut: Record<string, number> = {}
  for (const { op } of vectors.filter((v) => rest.has(vectorId(v)))) leftOut[op] = (leftOut[op] ?? 0) + 1
  return {
    vectors: vectors.filter((v) => !rest.has(vectorId(v))),
    budget: {
      seconds,
      chosen: vectors.length - rest.size,
      of: vectors.length,
      estimated: { cold: estimate.cold / 1000, kept: estimate.kept / 1000 },
      minimum: minimum.cold / 1000,
      leftOut,
      costsOf: table?.driver,
    },
  }
}

/** The report as lines. */
export function budgetLine(budget: BudgetReport): string {
  const { seconds, chosen, of, estimated, minimum, leftOut, costsOf } = budget
  const s = (value: number): string => `${value.toFixed(1)} s`
  const small =
    minimum > seconds
      ? `the budget of ${seconds} s is less than the ${s(minimum)} of one case per op and storage format, which ran\n`
      : ''
  const out = Object.entries(leftOut).map(([op, count]) => `${op} ${count}`)
  return `${small}${chosen} of ${of} cases for a budget of ${seconds} s: estimated ${s(estimated.cold)} with empty compile caches, ${s(estimated.kept)} with kept ones (${costsOf ? `measured on ${costsOf}` : 'nothing was measured'})\n${out.length > 0 ? `left out: ${out.join(', ')}\n` : ''}`
}
