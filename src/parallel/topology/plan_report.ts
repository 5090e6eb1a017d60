import type { Tier } from './cluster.ts'
import { whole } from './cluster_report.ts'
import type { Plan } from './plan.ts'
import { type Axis, axes } from './plan_file.ts'
import { formatQuantity } from './quantity.ts'

/** How the groups of an axis lie in the network. */
export interface AxisReport {
  readonly axis: Axis
  /** Ranks of a group. */
  readonly size: number
  readonly groups: number
  readonly tiers: readonly {
    readonly tier: string
    /** Groups whose ranks meet first in this tier. */
    readonly groups: number
    /** Pairs that talk in a ring or chain through a group, and whose path meets first in this tier. */
    readonly neighbours: number
    /** Bytes per second of one device in each direction over this tier, alone and when all send at once. */
    readonly bandwidth: number
    readonly loaded: number
    /** Seconds. */
    readonly latency: number
  }[]
}

/** For every axis larger than 1: which tiers its groups cross, and so at what bandwidth they talk. */
export function reportAxes(plan: Plan): AxisReport[] {
  return axes
    .filter((axis) => plan.size(axis) > 1)
    .map((axis) => {
      const size = plan.size(axis)
      // A pipeline without wrap is a chain; collectives go round.
      const ring = size > 2 && (axis !== 'pipeline' || plan.wraps)
      const groups = new Map<Tier, number>()
      const neighbours = new Map<Tier, number>()
      const add = (to: Map<Tier, number>, a: number, b: number): void => {
        const { tier } = plan.pathBetween(a, b)
        if (tier) to.set(tier, (to.get(tier) ?? 0) + 1)
      }
      for (const group of plan.groups(axis)) {
        // Units are ranges of ranks: what holds the first and the last of a group holds all of it.
        add(groups, group[0]!, group.at(-1)!)
        for (let i = 1; i < size; i++) add(neighbours, group[i - 1]!, group[i]!)
        if (ring) add(neighbours, group.at(-1)!, group[0]!)
      }
      return {
        axis,
        size,
        groups: plan.ranks / size,
        tiers: plan.cluster.tiers
          .filter((tier) => groups.has(tier) || neighbours.has(tier))
          .map((tier) => ({
            tier: tier.name,
            groups: groups.get(tier) ?? 0,
            neighbours: neighbours.get(tier) ?? 0,
            bandwidth: tier.link!.bandwidth,
            loaded: tier.link!.loaded,
            latency: tier.link!.latency,
          })),
      }
    })
}

/** Rows of a table, headings first: one for each axis and tier. */
export const axisRows = (report: readonly AxisReport[]): string[][] => [
  [
    'axis',
    'size',
    'groups',
    'within',
    'groups there',
    'neighbours there',
    'each way',
    'all at once',
    'latency',
  ],
  ...report.flatMap(({ axis, size, groups, tiers }) =>
    tiers.map((tier, i) => [
      i === 0 ? axis : '',
      i === 0 ? whole(size) : '',
      i === 0 ? whole(groups) : '',
      tier.tier,
      whole(tier.groups),
      whole(tier.neighbours),
      formatQuantity(tier.bandwidth, 'bandwidth'),
      formatQuantity(tier.loaded, 'bandwidth'),
      formatQuantity(tier.latency, 'time'),
    ]),
  ),
]
