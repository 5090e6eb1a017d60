import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parse, stringify } from 'yaml'
import { packageRoot } from '../../backends/package_root.ts'
import { ExactmapError } from '../../src/errors.ts'
import { type Cluster, loadCluster } from '../../src/parallel/topology/cluster.ts'
import { loadPlan, type Plan } from '../../src/parallel/topology/plan.ts'
import { type Axis, axes } from '../../src/parallel/topology/plan_file.ts'
import { axisRows, reportAxes } from '../../src/parallel/topology/plan_report.ts'
import { cpuTime } from '../helpers/cpu_time.ts'

const ship = (name: string): Cluster =>
  loadCluster(readFileSync(join(packageRoot(), 'assets', 'clusters', `${name}.yaml`)), name)
const rack = ship('gb300-nvl72')
const eight = ship('gb300-8-racks')
const largest = ship('gb300-3056-racks')

const load = (text: string, cluster: Cluster): Plan =>
  loadPlan(new TextEncoder().encode(text), 'plan.yaml', cluster)

const base = `
cluster: gb300-8-racks
grid: { tensor: 8, pipeline: 8, data: 8 }
order: [tensor, data, pipeline]
schedule: { name: 1f1b }
microbatches: 16
zero: 1
`
const changed = (edit: (file: Record<string, unknown>) => void): string => {
  const file = parse(base)
  edit(file)
  return stringify(file)
}

function refusal(text: string, cluster: Cluster = eight): ExactmapError {
  try {
    load(text, cluster)
  } catch (error) {
    if (error instanceof ExactmapError) return error
    throw error
  }
  throw new Error('nothing was refused')
}

/** Small grids in any order, with replicas, on eight racks with spares. */
const anyPlan = fc
  .tuple(
    fc.record(Object.fromEntries(axes.map((axis) => [axis, fc.integer({ min: 1, max: 4 })]))),
    fc.shuffledSubarray([...axes], { minLength: axes.length }),
    fc.integer({ min: 1, max: 3 }),
  )
  .map(([grid, order, replicas]) => {
    const product = Object.values(grid).reduce((a, b) => a * b, replicas)
    if (product > eight.active.length) return undefined
    return load(
      stringify({ cluster: eight.name, grid, order, replicas, schedule: { name: 'gpipe' }, microbatches: 4 }),
      eight,
    )
  })
  .filter((plan) => plan !== undefined)

describe('the grid', () => {
  it('coordinates and rank are inverse', () => {
    fc.assert(
      fc.property(anyPlan, (plan) => {
        const seen = new Set<string>()
        for (let rank = 0; rank < plan.ranks; rank++) {
          const coordinates = plan.coordinates(rank)
          expect(plan.rankAt(coordinates)).toBe(rank)
          seen.add(JSON.stringify(coordinates))
        }
        expect(seen.size).toBe(plan.ranks)
      }),
      { numRuns: 40 },
    )
  })

  it('every rank is in exactly one group of each axis, and in the one groupOf names', () => {
    fc.assert(
      fc.property(anyPlan, (plan) => {
        for (const axis of axes) {
          const groups = [...plan.groups(axis)]
          expect(groups.flat().sort((a, b) => a - b)).toEqual(
            Array.from({ length: plan.ranks }, (_, rank) => rank),
          )
          for (const group of groups) {
            expect(group).toHaveLength(plan.size(axis))
            expect(plan.groupOf(group.at(-1)!, [axis])).toEqual(group)
            const { [axis]: _, ...rest } = plan.coordinates(group[0]!)
            for (const rank of group) expect(plan.coordinates(rank)).toMatchObject(rest)
          }
        }
      }),
      { numRuns: 20 },
    )
  })

  it('a group along several axes is the product of its groups', () => {
    fc.assert(
      fc.property(anyPlan, fc.subarray([...axes]), fc.nat(), (plan, along, at) => {
        const rank = at % plan.ranks
        const group = plan.groupOf(rank, along)
        expect(new Set(group).size).toBe(along.reduce((product, axis) => product * plan.size(axis), 1))
        expect(group).toContain(rank)
      }),
    )
  })

  it('the innermost axis has consecutive ranks', () => {
    const plan = load(base, eight)
    expect(plan.groupOf(9, ['tensor'])).toEqual([8, 9, 10, 11, 12, 13, 14, 15])
    expect(plan.groupOf(0, ['data'])).toEqual([0, 8, 16, 24, 32, 40, 48, 56])
    expect(plan.coordinates(64)).toEqual({
      tensor: 0,
      context: 0,
      expert: 0,
      data: 0,
      pipeline: 1,
      replica: 0,
    })
  })

  it('ranks skip the spares of the cluster', () => {
    const plan = load(base, eight)
    expect([plan.clusterRank(63), plan.clusterRank(64)]).toEqual([63, 72])
    expect(eight.place(plan.clusterRank(64))).toMatchObject({ rack: 1, node: 0, device: 0 })
  })

  it('pipeline neighbours are the ranks before and after; chunks placed in turn close the ring', () => {
    const chain = load(base, eight)
    expect(chain.pipelineNeighbours(0)).toEqual({ previous: undefined, next: 64 })
    expect(chain.pipelineNeighbours(7 * 64)).toEqual({ previous: 6 * 64, next: undefined })
    const ring = load(base.replace('{ name: 1f1b }', '{ name: interleaved, chunks: 2 }'), eight)
    expect(ring.pipelineNeighbours(0)).toEqual({ previous: 7 * 64, next: 64 })
    const vShaped = load(base.replace('{ name: 1f1b }', '{ name: zb_v }'), eight)
    expect(vShaped.chunks).toBe(2)
    expect(vShaped.pipelineNeighbours(0)).toEqual({ previous: undefined, next: 64 })
    const single = load(base.replace('pipeline: 8', 'pipeline: 1'), eight)
    expect(single.pipelineNeighbours(3)).toEqual({ previous: undefined, next: undefined })
  })

  it('neighbours point at each other', () => {
    fc.assert(
      fc.property(anyPlan, fc.nat(), (plan, at) => {
        const rank = at % plan.ranks
        const { next, previous } = plan.pipelineNeighbours(rank)
        if (next !== undefined) expect(plan.pipelineNeighbours(next).previous).toBe(rank)
        if (previous !== undefined) expect(plan.pipelineNeighbours(previous).next).toBe(rank)
      }),
    )
  })

  it('equal ranks are those of a pipeline coordinate, with zero of a data coordinate too, and count all once', () => {
    fc.assert(
      fc.property(anyPlan, (plan) => {
        const equal = plan.equalRanks()
        expect(equal.reduce((sum, e) => sum + e.count, 0)).toBe(plan.ranks)
        for (const { pipeline, data, first, count } of equal) {
          const isEqual = (rank: number): boolean => {
            const at = plan.coordinates(rank)
            return (
              at.pipeline === pipeline &&
              (plan.file.zero === 0 || plan.size('data') === 1 || at.data === data)
            )
          }
          expect(isEqual(first)).toBe(true)
          let ranks = 0
          for (let rank = 0; rank < plan.ranks; rank++) if (isEqual(rank)) ranks++
          expect(count).toBe(ranks)
        }
      }),
      { numRuns: 20 },
    )
  })
})

it('the example of docs/parallel.md lies on its cluster', () => {
  const text = readFileSync(join(packageRoot(), 'docs', 'parallel.md'), 'utf8')
  const example = [...text.matchAll(/```yaml\n(.*?)```/gs)].find((m) => m[1]!.includes('microbatches'))![1]!
  expect(load(example, eight).ranks).toBe(512)
})

describe('which groups cross which tier', () => {
  const tiersOf = (text: string, cluster: Cluster) =>
    Object.fromEntries(
      reportAxes(load(text, cluster)).map(({ axis, tiers }) => [
        axis,
        tiers.map(({ tier, groups, neighbours }) => [tier, groups, neighbours]),
      ]),
    )

  it('a rack for tensor and data, the network for stages', () => {
    expect(tiersOf(base, eight)).toEqual({
      // 64 groups of 8 over two nodes: 6 pairs of the ring inside them, 2 between.
      tensor: [
        ['node', 0, 64 * 6],
        ['rack', 64, 64 * 2],
      ],
      data: [['rack', 64, 64 * 8]],
      pipeline: [['pod', 64, 64 * 7]],
    })
  })

  it('another order moves the network to the data axis', () => {
    const other = base.replace('[tensor, data, pipeline]', '[tensor, pipeline, data]')
    const crossing = tiersOf(other, eight)
    expect(crossing.pipeline).toEqual([['rack', 64, 64 * 7]])
    expect(crossing.data).toEqual([['pod', 64, 64 * 8]])
  })

  it('groups and neighbours of each axis sum up, and the slowest pair decides the tier', () => {
    fc.assert(
      fc.property(anyPlan, (plan) => {
        const report = reportAxes(plan)
        expect(axisRows(report).length).toBe(1 + report.reduce((sum, r) => sum + r.tiers.length, 0))
        for (const { axis, size, groups, tiers } of report) {
          expect(tiers.reduce((sum, t) => sum + t.groups, 0)).toBe(groups)
          const ring = size > 2 && axis !== 'pipeline' ? size : size - 1
          expect(tiers.reduce((sum, t) => sum + t.neighbours, 0)).toBe(groups * ring)
        }
      }),
      { numRuns: 20 },
    )
  })

  it('180,224 ranks of the largest cluster are placed and reported in seconds', () => {
    const start = cpuTime()
    const plan = load(
      stringify({
        cluster: largest.name,
        grid: { tensor: 8, pipeline: 16, data: 1408 },
        schedule: { name: '1f1b' },
        microbatches: 64,
      }),
      largest,
    )
    const tensor = reportAxes(plan).find((r) => r.axis === 'tensor')!
    expect(tensor.tiers.map((t) => t.tier)).toEqual(['node', 'rack'])
    expect(tensor.groups).toBe(180_224 / 8)
    expect(cpuTime() - start).toBeLessThan(5000)
  })
})

describe('the plan hash', () => {
  const { hash } = load(base, eight)

  it.each([
    ['key order', stringify(Object.fromEntries(Object.entries(parse(base)).reverse()))],
    ['order of the grid', base.replace('tensor: 8, pipeline: 8, data: 8', 'data: 8, tensor: 8, pipeline: 8')],
    ['comments', `# why\n${base.replace('zero: 1', 'zero: 1 # optimizer state')}`],
    ['whitespace', base.replaceAll(': ', ':    ').replaceAll('\n', '\n\n')],
    ['JSON, which is YAML', JSON.stringify(parse(base))],
    ['a name', `name: mine\n${base}`],
    ['defaults written out', base.replace('data: 8', 'data: 8, expert: 1').concat('replicas: 1\n')],
    ['the schedule’s own chunks', base.replace('1f1b', '1f1b, chunks: 1')],
    ['the place of an axis of size 1', base.replace('[tensor, data', '[context, tensor, data')],
  ])('is stable under %s', (_, text) => {
    expect(text).not.toBe(base)
    expect(load(text, eight).hash).toBe(hash)
  })

  it.each([
    ['the grid', base.replace('pipeline: 8', 'pipeline: 4')],
    ['the order', base.replace('[tensor, data, pipeline]', '[data, tensor, pipeline]')],
    ['the schedule', base.replace('1f1b', 'gpipe')],
    ['the microbatches', base.replace('16', '32')],
    ['zero', base.replace('zero: 1', 'zero: 2')],
  ])('follows %s', (_, text) => {
    expect(load(text, eight).hash).not.toBe(hash)
  })

  it('follows the figures of the cluster', () => {
    const file = structuredClone(eight.file)
    const slower = parse(
      readFileSync(join(packageRoot(), 'assets', 'clusters', 'gb300-8-racks.yaml'), 'utf8'),
    )
    slower.links.infiniband.bandwidth.value = '400 Gbit/s'
    const other = loadCluster(new TextEncoder().encode(stringify(slower)), 'slower')
    expect(other.name).toBe(file.name)
    expect(load(base, other).hash).not.toBe(hash)
  })
})

describe('a bad plan is refused with the field named', () => {
  const grid = (sizes: Partial<Record<Axis, unknown>>) =>
    changed((file) => {
      file.grid = { ...(file.grid as object), ...sizes }
    })
  const set = (key: string, value: unknown) =>
    changed((file) => {
      if (value === undefined) delete file[key]
      else file[key] = value
    })

  it.each<[string, string, RegExp]>([
    [
      'a product that does not fit',
      grid({ data: 9 }),
      /^grid: expected a product within the 512 ranks of gb300-8-racks \(576 without 64 spares\), got tensor 8 x data 9 x pipeline 8 = 576; with the others as they are, grid\.tensor of at most 7 or grid\.data of at most 8 or grid\.pipeline of at most 7 fits/,
    ],
    ['replicas that do not fit', set('replicas', 2), /x replicas 2 = 1024; .*replicas of at most 1 fits/],
    ['nothing that fits', grid({ tensor: 4096, data: 4096 }), /no single size makes it fit/],
    [
      'an unknown axis',
      grid({ ['depth' as Axis]: 2 }),
      /^grid\.depth: unknown field, expected one of tensor, context/,
    ],
    ['a size of 0', grid({ tensor: 0 }), /^grid\.tensor: .*>=1, got 0/],
    ['a broken size', grid({ tensor: 1.5 }), /^grid\.tensor: .*expected int/],
    [
      'an axis placed twice',
      set('order', ['tensor', 'tensor', 'data', 'pipeline']),
      /^order: expected each axis once, got tensor 2 times/,
    ],
    [
      'an axis left out',
      set('order', ['tensor', 'data']),
      /^order: expected every axis larger than 1, got none for pipeline, which is 8/,
    ],
    ['an unknown axis in the order', set('order', ['depth']), /^order\.0: .*got "depth"/],
    ['an unknown schedule', set('schedule', { name: 'fast' }), /^schedule\.name: .*"1f1b".*got "fast"/],
    ['no schedule', set('schedule', undefined), /^schedule: .*expected object, received undefined/],
    [
      'interleaved with one chunk',
      set('schedule', { name: 'interleaved', chunks: 1 }),
      /^schedule: expected at least 2 chunks a rank, got 1/,
    ],
    [
      'microbatches a schedule is not defined for',
      changed((f) => {
        f.schedule = { name: 'interleaved', chunks: 2 }
        f.microbatches = 12
      }),
      /^schedule: .*got 12; 16 would do/,
    ],
    ['no microbatches', set('microbatches', undefined), /^microbatches: .*received undefined/],
    ['negative microbatches', set('microbatches', -4), /^microbatches: .*>=1, got -4/],
    ['zero of 4', set('zero', 4), /^zero: .*<=3, got 4/],
    [
      'an unknown field',
      set('fsdp', true),
      /^fsdp: unknown field, expected one of name, cluster, grid, replicas/,
    ],
    ['no cluster', set('cluster', undefined), /^cluster: .*received undefined/],
    ['no YAML', 'grid: {', /not valid YAML/],
  ])('%s', (_, text, message) => {
    const error = refusal(text)
    expect(error.code).toBe('invalid_config')
    expect(error.message).toMatch(message)
    expect(error.message).toMatch(/\[file plan\.yaml\]$/)
  })

  it('a plan for another cluster', () => {
    expect(refusal(base, rack)).toMatchObject({
      code: 'conflict',
      message: expect.stringContaining("expected the plan's cluster 'gb300-8-racks', got 'gb300-nvl72'"),
    })
  })

  it('ranks and coordinates that are not there', () => {
    const plan = load(base, eight)
    for (const rank of [-1, 512, 1.5]) {
      expect(() => plan.coordinates(rank)).toThrow(`expected a rank from 0 to 511 of the plan, got ${rank}`)
      expect(() => plan.clusterRank(rank)).toThrow(ExactmapError)
      expect(() => plan.groupOf(rank, ['tensor'])).toThrow(ExactmapError)
    }
    expect(() => plan.rankAt({ ...plan.coordinates(0), data: 8 })).toThrow(
      'expected a data coordinate from 0 to 7, got 8',
    )
  })
})
