import { check } from '../../errors.ts'
import type { Cluster } from '../topology/cluster.ts'
import type { Plan } from '../topology/plan.ts'
import type { Collective, CollectiveAlgorithm, CollectiveKind, Pair, Round } from './algorithm.ts'
import { direct } from './direct.ts'
import { hierarchical } from './hierarchical.ts'
import type { ChooseAlgorithm } from './lower.ts'
import { oneStep } from './one_step.ts'
import { ring } from './ring.ts'
import { tree } from './tree.ts'

/**
 * How the members of a group reach each other on a cluster, and what messages between them cost in the alpha-beta
 * model (Hockney 1994): alpha, the latency, and bytes * beta, with beta one over the bandwidth of one device while all
 * devices send. A member's messages of a round leave one after the other over its port, their latencies pass together:
 * a round lasts the largest latency in it plus the time of the member that sends longest. Sums and copies within a
 * device are not counted.
 */
export class GroupLinks {
  readonly size: number

  /** @param ranks the cluster's ranks by member number, each once */
  constructor(
    private readonly cluster: Cluster,
    private readonly ranks: readonly number[],
  ) {
    const { size } = new Set(ranks)
    check(
      size === ranks.length &&
        ranks.every((rank) => Number.isInteger(rank) && cluster.devices > rank && rank >= 0),
      'invalid_argument',
      () =>
        `expected different ranks from 0 to ${cluster.devices - 1} of cluster ${cluster.name}, got ${ranks}`,
    )
    this.size = size
  }

  /** Sizes of nodes into which tiers cut the group: contiguous members, as many in each unit. */
  nodeSizes(): number[] {
    const sizes = this.cluster.tiers.flatMap(({ devices }) => {
      const units = this.ranks.map((rank) => Math.floor(rank / devices))
      const first = units.findIndex((unit) => unit !== units[0])
      const runs = new Set(units.filter((unit, i) => unit !== units[i - 1])).size
      const even = first > 1 && units.every((unit, i) => unit === units[i - (i % first)])
      return even && runs * first === this.size ? [first] : []
    })
    return [...new Set(sizes)]
  }

  /** Seconds from when a round's messages are given to when all have arrived. */
  seconds({ times, bytes, messages }: Round): number {
    const { latency, perByte } =
      'pairs' in messages
        ? this.alongPairs(messages.pairs)
        : slowest(messages.teams.map((t) => this.withinTeam(t)))
    return times * (latency + bytes * perByte)
  }

  private alongPairs(pairs: readonly Pair[]): Alphabeta {
    let latency = 0
    const perByte = new Map<number, number>()
    for (const [from, to] of pairs) {
      const path = this.cluster.pathBetween(this.ranks[from]!, this.ranks[to]!)
      latency = Math.max(latency, path.latency)
      perByte.set(from, (perByte.get(from) ?? 0) + 1 / path.loaded)
    }
    return { latency, perByte: largest(perByte.values()) }
  }

  /** Everyone to everyone: counts how many each meets first in which tier, not pair by pair. */
  private withinTeam(team: readonly number[]): Alphabeta {
    let latency = 0
    let met = team.map(() => 1)
    const perByte = team.map(() => 0)
    for (const { devices, link } of this.cluster.tiers) {
      const units = team.map((member) => Math.floor(this.ranks[member]! / devices))
      const members = new Map<number, number>()
      for (const unit of units) members.set(unit, (members.get(unit) ?? 0) + 1)
      const meets = units.map((unit) => members.get(unit)!)
      meets.forEach((count, i) => {
        if (count === met[i]) return
        latency = Math.max(latency, link!.latency)
        perByte[i]! += (count - met[i]!) / link!.loaded
      })
      met = meets
    }
    return { latency, perByte: largest(perByte) }
  }
}

/** Seconds of latency, and seconds for every byte of one message to each. */
interface Alphabeta {
  readonly latency: number
  readonly perByte: number
}

const largest = (values: Iterable<number>): number => {
  let most = 0
  for (const value of values) most = Math.max(most, value)
  return most
}

const slowest = (all: readonly Alphabeta[]): Alphabeta => ({
  latency: largest(all.map((one) => one.latency)),
  perByte: largest(all.map((one) => one.perByte)),
})

/** Links of a group of a cluster's or a plan's ranks, by member number. */
export const linksOf = (world: Cluster | Plan, ranks: readonly number[]): GroupLinks =>
  'clusterRank' in world
    ? new GroupLinks(
        world.cluster,
        ranks.map((rank) => world.clusterRank(rank)),
      )
    : new GroupLinks(world, ranks)

/**
 * Seconds one collective takes by an algorithm, alone on its links.
 *
 * @param bytes of one member's x
 * @param root of a broadcast
 */
export function collectiveSeconds(
  algorithm: CollectiveAlgorithm,
  kind: CollectiveKind,
  bytes: number,
  links: GroupLinks,
  root = 0,
): number {
  if (links.size === 1) return 0
  const { rounds } = (algorithm[kind] ?? direct[kind]) as Collective<{ size: number; root: number }>
  return rounds({ size: links.size, root }, bytes).reduce((sum, round) => sum + links.seconds(round), 0)
}

/** All algorithms that a group can use. */
export const algorithmsFor = (links: GroupLinks): CollectiveAlgorithm[] => [
  direct,
  oneStep,
  tree,
  ring,
  ...links.nodeSizes().map(hierarchical),
]

/**
 * Takes the cheapest algorithm for every collective, of equals the first of {@link algorithmsFor}; a broadcast counts
 * as from member 0. All members of a group get the same answer from the same links.
 *
 * @param groups links of every group the graph names
 * @param options.fixedOrder sums in member order only: the same bytes wherever the members are
 */
export function chooseByCost(
  groups: Readonly<Record<string, GroupLinks>>,
  { fixedOrder = false }: { readonly fixedOrder?: boolean } = {},
): ChooseAlgorithm {
  const chosen = new Map<string, CollectiveAlgorithm>()
  return (kind, { group, size }, bytes) => {
    const links = groups[group]
    check(
      links?.size === size,
      'invalid_argument',
      () => `expected the links of group '${group}' of ${size} members, got ${links?.size ?? 'none'}`,
    )
    const key = `${group} ${kind} ${bytes}`
    const known = chosen.get(key)
    if (known) return known
    const sums = kind === 'all_reduce' || kind === 'reduce_scatter'
    const cost = (algorithm: CollectiveAlgorithm) => collectiveSeconds(algorithm, kind, bytes, links)
    const best = algorithmsFor(links)
      .filter((a) => a[kind] && (a.memberOrder || !(sums && fixedOrder)))
      .reduce((a, b) => (cost(b) < cost(a) ? b : a))
    chosen.set(key, best)
    return best
  }
}
