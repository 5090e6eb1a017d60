import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parse, stringify } from 'yaml'
import { packageRoot } from '../../backends/package_root.ts'
import type { ExchangeAttributes } from '../../src/ops/collectives/exchange.ts'
import type { CollectiveAlgorithm, CollectiveKind } from '../../src/parallel/collectives/algorithm.ts'
import {
  algorithmsFor,
  chooseByCost,
  collectiveSeconds,
  type GroupLinks,
  linksOf,
} from '../../src/parallel/collectives/cost.ts'
import { direct } from '../../src/parallel/collectives/direct.ts'
import { hierarchical } from '../../src/parallel/collectives/hierarchical.ts'
import { lowerCollectives } from '../../src/parallel/collectives/lower.ts'
import { ring } from '../../src/parallel/collectives/ring.ts'
import { tree } from '../../src/parallel/collectives/tree.ts'
import { type Cluster, loadCluster } from '../../src/parallel/topology/cluster.ts'
import { loadPlan } from '../../src/parallel/topology/plan.ts'
import { Graph } from '../../src/program/graph.ts'
import { tensorType } from '../../src/tensor/type.ts'

const encode = (text: string): Uint8Array => new TextEncoder().encode(text)
const shipped = (name: string): string =>
  readFileSync(join(packageRoot(), 'assets', 'clusters', `${name}.yaml`), 'utf8')

const racks = loadCluster(encode(shipped('gb300-8-racks')), 'gb300-8-racks.yaml')
/** Every pair of ranks over the same link. */
const flat = loadCluster(encode(shipped('gb300-nvl72')), 'gb300-nvl72.yaml')
/** Nodes of two, racks of two nodes, four racks; each tier slower than the one inside it, the outer one shared. */
const tiered = ((): Cluster => {
  const file = parse(shipped('gb300-8-racks'))
  const link = (bandwidth: string, latency: string, more = {}) => ({
    bandwidth: { value: bandwidth, source: 'made up' },
    latency: { value: latency, source: 'made up' },
    hops: ['switch'],
    ...more,
  })
  file.node.devices = 2
  file.node.nics.count = 2
  file.links = {
    near: link('900 GB/s', '1 us'),
    far: link('100 GB/s', '2 us'),
    further: link('50 GB/s', '7 us', { oversubscription: { value: '2:1', source: 'made up' } }),
  }
  file.tiers = [
    { name: 'node', holds: 2, link: 'near' },
    { name: 'rack', holds: 2, link: 'far' },
    { name: 'pod', holds: 4, link: 'further' },
  ]
  return loadCluster(encode(stringify(file)), 'tiered.yaml')
})()

const kinds: readonly CollectiveKind[] = [
  'all_reduce',
  'reduce_scatter',
  'all_gather',
  'all_to_all',
  'rank_broadcast',
]
const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)
const nodesOf = (size: number): CollectiveAlgorithm[] =>
  range(size)
    .filter((nodeSize) => nodeSize > 0 && size % nodeSize === 0)
    .map(hierarchical)

interface Walked {
  readonly member: number
  readonly sends: ExchangeAttributes['sends']
  readonly receives: ExchangeAttributes['receives']
}

/** The messages between members that lowering makes, in rounds: an exchange and those it has messages with are in one. */
function roundsOf(
  algorithm: CollectiveAlgorithm,
  kind: CollectiveKind,
  size: number,
  elements: number,
  root: number,
) {
  const graph = new Graph(kind)
  const x = graph.input('x', tensorType('f32', elements))
  const attrs = { group: 'g', size, ...(kind === 'rank_broadcast' ? { root } : {}) }
  graph.output('y', graph.op(kind, attrs, { x }).y!)
  const steps = range(size).map((member) =>
    lowerCollectives(graph, { g: member }, () => algorithm)
      .nodes.filter((node) => node.op === 'exchange')
      .map(({ attrs }): Walked => {
        const { sends, receives } = attrs as ExchangeAttributes
        const others = (list: typeof sends) => list.filter(({ peer }) => peer !== member)
        return { member, sends: others(sends), receives: others(receives) }
      }),
  )
  // The k-th message from a to b joins the exchange that sends it and the one that takes it.
  const round = new Map(steps.flat().map((step) => [step, 0]))
  const taken = new Map<string, Walked[]>()
  for (const step of steps.flat())
    for (const { peer } of step.receives) {
      const key = `${peer} ${step.member}`
      taken.set(key, [...(taken.get(key) ?? []), step])
    }
  const joined: [Walked, Walked][] = []
  for (const step of steps.flat())
    for (const { peer } of step.sends) joined.push([step, taken.get(`${step.member} ${peer}`)!.shift()!])
  expect([...taken.values()].flat()).toEqual([])
  for (let changed = true; changed; ) {
    changed = false
    const raise = (step: Walked, to: number): void => {
      if (round.get(step)! >= to) return
      round.set(step, to)
      changed = true
    }
    for (const list of steps)
      list.slice(1).forEach((step, i) => {
        raise(step, round.get(list[i]!)! + 1)
      })
    for (const [a, b] of joined) {
      raise(a, round.get(b)!)
      raise(b, round.get(a)!)
    }
  }
  const all = steps.flat()
  return range(Math.max(...round.values()) + 1).map((r) => all.filter((step) => round.get(step) === r))
}

/** Latency of the slowest message plus bytes over bandwidth of the busiest member, round by round. */
function walkedSeconds(rounds: Walked[][], cluster: Cluster, ranks: readonly number[]): number {
  let seconds = 0
  for (const steps of rounds) {
    let latency = 0
    let busiest = 0
    for (const { member, sends } of steps) {
      let busy = 0
      for (const { peer, bytes } of sends) {
        const path = cluster.pathBetween(ranks[member]!, ranks[peer]!)
        latency = Math.max(latency, path.latency)
        busy += bytes / path.loaded
      }
      busiest = Math.max(busiest, busy)
    }
    seconds += latency + busiest
  }
  return seconds
}

const isNear = (a: number, b: number): void => expect(Math.abs(a - b)).toBeLessThanOrEqual(1e-9 * Math.abs(b))

describe('alpha-beta cost', () => {
  it.each(range(8).map((i) => i + 2))('is that of the lowered messages on equal links, n = %i', (size) => {
    const ranks = range(size)
    const links = linksOf(flat, ranks)
    for (const kind of kinds)
      for (const algorithm of [direct, ring, tree, ...nodesOf(size)])
        for (const elements of [1, size - 1, size, 5 * size, 5 * size + 1, 12 * size - 1]) {
          if ((kind === 'reduce_scatter' || kind === 'all_to_all') && elements % size !== 0) continue
          for (const root of kind === 'rank_broadcast' ? ranks : [0]) {
            const walked = walkedSeconds(roundsOf(algorithm, kind, size, elements, root), flat, ranks)
            isNear(collectiveSeconds(algorithm, kind, 4 * elements, links, root), walked)
          }
        }
  })

  it('is that of the lowered messages where links differ', () => {
    const group = fc
      .integer({ min: 2, max: 9 })
      .chain((size) => fc.shuffledSubarray(range(tiered.devices), { minLength: size, maxLength: size }))
    fc.assert(
      fc.property(group, fc.constantFrom(...kinds), fc.nat(9), fc.nat(), (ranks, kind, rows, pick) => {
        const size = ranks.length
        // Members that tree folds and those it does not start together but are counted in different rounds.
        const trees = kind === 'all_reduce' && Math.log2(size) % 1 !== 0 ? [] : [tree]
        const root = pick % size
        for (const algorithm of [direct, ring, ...trees, ...nodesOf(size)]) {
          const elements = size * (rows + 1)
          const walked = walkedSeconds(roundsOf(algorithm, kind, size, elements, root), tiered, ranks)
          isNear(collectiveSeconds(algorithm, kind, 4 * elements, linksOf(tiered, ranks), root), walked)
        }
      }),
      { numRuns: 60 },
    )
  })

  it('is nothing for a group of one', () => {
    expect(collectiveSeconds(ring, 'all_reduce', 1e9, linksOf(flat, [3]))).toBe(0)
  })

  it("takes a plan's ranks to the cluster's, past the spares", () => {
    const file = {
      cluster: 'gb300-8-racks',
      grid: { data: 512 },
      schedule: { name: '1f1b' },
      microbatches: 1,
    }
    const plan = loadPlan(encode(stringify(file)), 'plan.yaml', racks)
    const members = [0, 64, 128]
    expect(members.map((rank) => plan.clusterRank(rank))).not.toEqual(members)
    isNear(collectiveSeconds(ring, 'all_gather', 1e6, linksOf(plan, members)), 2 * (3.5e-6 + 1e6 / 100e9))
  })

  it.each([[[0, 1, 1]], [[0, 576]], [[0, -1]]])('ranks %j are refused', (ranks) => {
    expect(() => linksOf(racks, ranks)).toThrow(/expected different ranks from 0 to 575/)
  })
})

describe('nodes of a group', () => {
  it.each<[string, number[], number[]]>([
    ['nodes and racks', range(16), [2, 4]],
    ['one node', [0, 1], []],
    ['one member a node', [0, 2, 4, 6], [2]],
    ['nodes of different size', [0, 1, 2, 4, 5], []],
    ['racks apart', [0, 1, 2, 3, 8, 9, 10, 11], [2, 4]],
    ['not next to each other', [0, 4, 1, 5], []],
  ])('%s', (_what, ranks, sizes) => {
    expect(linksOf(tiered, ranks).nodeSizes()).toEqual(sizes)
  })
})

describe('chooser', () => {
  const call = (size: number) => ({ group: 'g', size, channel: 0 })
  const choose = (links: GroupLinks, kind: CollectiveKind, bytes: number, fixedOrder = false): string =>
    chooseByCost({ g: links }, { fixedOrder })(kind, call(links.size), bytes).name

  it('takes what no other algorithm undercuts', () => {
    const group = fc
      .integer({ min: 2, max: 12 })
      .chain((size) => fc.shuffledSubarray(range(tiered.devices), { minLength: size, maxLength: size }))
    fc.assert(
      fc.property(group, fc.constantFrom(...kinds), fc.integer({ min: 1, max: 24 }), (ranks, kind, power) => {
        const links = linksOf(tiered, ranks)
        const bytes = 4 * ranks.length * 2 ** power
        const seconds = (a: CollectiveAlgorithm): number => collectiveSeconds(a, kind, bytes, links)
        const all = algorithmsFor(links)
        const chosen = all.find(({ name }) => name === choose(links, kind, bytes))!
        for (const other of all) expect(seconds(chosen)).toBeLessThanOrEqual(seconds(other))
      }),
    )
  })

  it('crosses the network once where nodes are fast, and talks to few where latency decides', () => {
    const acrossRacks = linksOf(
      racks,
      [0, 72, 144, 216].flatMap((first) => range(4).map((i) => first + i)),
    )
    for (const kind of ['all_reduce', 'reduce_scatter', 'all_gather'] as const)
      expect(choose(acrossRacks, kind, 2 ** 28)).toBe('hierarchical(4)')
    expect(choose(linksOf(flat, range(8)), 'all_reduce', 2 ** 28)).toBe('direct')
    expect(choose(linksOf(flat, range(8)), 'rank_broadcast', 2 ** 28)).toBe('tree')
    // Seven members do not divide these elements: everything to everyone, or uneven chunks around the ring.
    expect(choose(linksOf(flat, range(7)), 'all_reduce', 2 ** 28)).toBe('ring')
    expect(choose(acrossRacks, 'all_gather', 256)).toBe('direct')
    expect(choose(linksOf(flat, range(8)), 'all_reduce', 2 ** 12)).toBe('one_step')
    // Two members send the same bytes in one step as in two.
    expect(choose(linksOf(flat, range(2)), 'all_reduce', 2 ** 28)).toBe('one_step')
  })

  it('sums in member order only, where the order is fixed', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 16 }), fc.integer({ min: 1, max: 28 }), (size, power) => {
        const links = linksOf(tiered, range(size))
        for (const kind of ['all_reduce', 'reduce_scatter'] as const)
          expect(['direct', 'one_step']).toContain(choose(links, kind, 4 * size * 2 ** power, true))
        for (const kind of ['all_gather', 'rank_broadcast'] as const)
          expect(choose(links, kind, 2 ** power * 4, true)).toBe(choose(links, kind, 2 ** power * 4))
      }),
    )
  })

  it('wants the links of every group', () => {
    expect(() => chooseByCost({})('all_reduce', call(4), 16)).toThrow(
      /links of group 'g' of 4 members, got none/,
    )
    expect(() => chooseByCost({ g: linksOf(flat, [0, 1]) })('all_reduce', call(4), 16)).toThrow(/got 2/)
  })
})
