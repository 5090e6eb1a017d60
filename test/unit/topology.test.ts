import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parse, stringify } from 'yaml'
import { packageRoot } from '../../backends/package_root.ts'
import { ExactmapError } from '../../src/errors.ts'
import { type Cluster, loadCluster } from '../../src/parallel/topology/cluster.ts'
import { sourceLines, tierRows, totalRows } from '../../src/parallel/topology/cluster_report.ts'
import { formatQuantity, parseQuantity, type QuantityKind } from '../../src/parallel/topology/quantity.ts'
import { cpuTime } from '../helpers/cpu_time.ts'

const folder = join(packageRoot(), 'assets', 'clusters')
const shipped = readdirSync(folder).sort()
const textOf = (name: string): string => readFileSync(join(folder, `${name}.yaml`), 'utf8')
const load = (text: string): Cluster => loadCluster(new TextEncoder().encode(text), 'test.yaml')
const ship = (name: string): Cluster => load(textOf(name))

const refusal = (body: () => unknown): ExactmapError => {
  try {
    body()
  } catch (error) {
    if (error instanceof ExactmapError) return error
    throw error
  }
  throw new Error('nothing was refused')
}

describe('quantities', () => {
  it.each<[string, QuantityKind, number]>([
    ['141 GB', 'bytes', 141e9],
    ['141 GiB', 'bytes', 141 * 2 ** 30],
    ['4.8 TB/s', 'bandwidth', 4.8e12],
    ['800 Gbit/s', 'bandwidth', 100e9],
    ['2 us', 'time', 2e-6],
    ['3 us', 'time', 3e-6],
    ['989.5 TFLOP/s', 'flops', 989.5e12],
    ['7:1', 'ratio', 7],
  ])('%s is %s %d', (text, kind, value) => {
    expect(parseQuantity(text, kind)).toBe(value)
  })

  it.each<[unknown, QuantityKind, RegExp]>([
    ['141', 'bytes', /^expected bytes such as '141 GB', got '141'$/],
    [141, 'bytes', /^expected bytes such as '141 GB', got 141$/],
    [undefined, 'bytes', /got nothing$/],
    ['141GB', 'bytes', /got '141GB'$/],
    ['141  GB', 'bytes', /got '141 {2}GB'$/],
    ['141 gb', 'bytes', /units: B, kB, MB, .*GiB.*got '141 gb'$/],
    ['141 GB/s', 'bytes', /units: B,.*got '141 GB\/s'$/],
    ['900 GB', 'bandwidth', /units: B\/s,.*got '900 GB'$/],
    ['-2 us', 'time', /from 1 ns to 1 s, got '-2 us'$/],
    ['2 min', 'time', /units: ns, us, ms, s\), got '2 min'$/],
    ['1e3 GB', 'bytes', /got '1e3 GB'$/],
    ['990 TFLOPS', 'flops', /units: GFLOP\/s,.*got '990 TFLOPS'$/],
    ['9900000 PFLOP/s', 'flops', /from 1 GFLOP\/s to 1 EFLOP\/s, got/],
    ['7', 'ratio', /^expected a ratio such as '7:1', got '7'$/],
    ['7 :1', 'ratio', /got '7 :1'$/],
    ['1 constructor', 'bytes', /units: B,/],
  ])('%j is refused as %s', (text, kind, message) => {
    const error = refusal(() => parseQuantity(text, kind))
    expect(error.code).toBe('invalid_argument')
    expect(error.message).toMatch(message)
  })

  it('what is printed reads back to four digits', () => {
    const kinds: readonly QuantityKind[] = ['bytes', 'bandwidth', 'flops', 'time', 'ratio']
    fc.assert(
      fc.property(fc.constantFrom(...kinds), fc.double({ min: 0, max: 1, noNaN: true }), (kind, at) => {
        const low = { bytes: 1e6, bandwidth: 1e6, flops: 1e9, time: 1e-9, ratio: 1 }[kind]
        const high = { bytes: 1e15, bandwidth: 1e15, flops: 1e18, time: 1, ratio: 100 }[kind]
        const value = low * (high / low) ** (at * 0.999)
        expect(Math.abs(parseQuantity(formatQuantity(value, kind), kind) / value - 1)).toBeLessThan(6e-4)
      }),
    )
  })
})

describe('shipped clusters', () => {
  it.each([
    ['laptop', 2, 1, 1, 2],
    ['h200', 1, 1, 1, 1],
    ['h200-8', 8, 1, 1, 8],
    ['gb300-nvl72', 72, 1, 18, 72],
    ['gb300-8-racks', 576, 8, 144, 512],
    ['gb300-144-racks', 144 * 72, 144, 144 * 18, 144 * 64],
    ['gb300-3056-racks', 3056 * 72, 3056, 3056 * 18, 3056 * 64],
  ])('%s has %d devices in %d racks and %d nodes, %d of them active', (name, devices, racks, nodes, active) => {
    const cluster = ship(name)
    expect(cluster).toMatchObject({ name, devices, racks, nodes })
    expect(cluster.active.length).toBe(active)
    expect(tierRows(cluster)).toHaveLength(1 + cluster.tiers.length)
    expect(totalRows(cluster).length).toBeGreaterThan(4)
  })

  it('are all in the table above, named as their files', () => {
    expect(shipped).toHaveLength(7)
    for (const file of shipped) expect(`${ship(file.replace(/\.yaml$/, '')).name}.yaml`).toBe(file)
  })

  it('have the published totals of a GB300 rack', () => {
    const { memory, bandwidth, flops } = ship('gb300-nvl72').totals()
    expect(memory).toBe(72 * 288e9)
    expect(bandwidth).toBe(576e12)
    expect(flops.nvfp4).toBe(1.08e18)
    expect(flops.bf16).toBe(180e15)
    const { tiers } = ship('gb300-8-racks')
    expect(tiers[1]!.link!.bandwidth / tiers[2]!.link!.bandwidth).toBe(9)
  })

  it('mark every figure with a source', () => {
    for (const file of shipped) {
      const { file: content } = ship(file.replace(/\.yaml$/, ''))
      const figures = JSON.stringify(content).match(/"value":/g)!.length
      expect(sourceLines(content).length).toBeGreaterThanOrEqual(figures)
    }
  })

  it('the largest fills 21 pods and a part of one', () => {
    const pods = ship('gb300-3056-racks').groupsBy('pod')
    expect(pods.map((p) => p.count)).toEqual([...Array(21).fill(10_368), 32 * 72])
    expect(pods.at(-1)!.first).toBe(21 * 10_368)
  })
})

describe('ranks and paths', () => {
  it('220,032 ranks are enumerated in well under a second', () => {
    const cluster = ship('gb300-3056-racks')
    const start = cpuTime()
    let seen = 0
    for (const place of cluster.ranks()) if (cluster.rankAt(place) === seen) seen++
    expect(seen).toBe(220_032)
    expect(cpuTime() - start).toBeLessThan(1000)
  })

  const anyCluster = fc.constantFrom(...shipped.map((f) => ship(f.replace(/\.yaml$/, ''))))
  const ranksOf = (n: number) =>
    anyCluster.chain((c) =>
      fc.tuple(fc.constant(c), ...Array.from({ length: n }, () => fc.nat(c.devices - 1))),
    )

  it('place and rank are inverse, and a rank lies in one unit of every tier', () => {
    fc.assert(
      fc.property(ranksOf(1), ([cluster, rank]) => {
        expect(cluster.rankAt(cluster.place(rank!))).toBe(rank)
        for (const { name } of cluster.tiers)
          expect(
            cluster.groupsBy(name).filter((u) => rank! >= u.first && rank! < u.first + u.count),
          ).toHaveLength(1)
      }),
    )
  })

  it('a path is symmetric and takes the innermost tier that holds both', () => {
    fc.assert(
      fc.property(ranksOf(2), ([cluster, a, b]) => {
        const path = cluster.pathBetween(a!, b!)
        expect(cluster.pathBetween(b!, a!)).toEqual(path)
        const shared = cluster.tiers.filter(({ name }) =>
          cluster
            .groupsBy(name)
            .some((u) => [a!, b!].every((rank) => rank >= u.first && rank < u.first + u.count)),
        )
        expect(path.tier).toBe(a === b ? undefined : shared[0])
        expect(path.bandwidth).toBe(path.tier?.link?.bandwidth ?? cluster.file.device.bandwidth.value)
      }),
    )
  })

  it('says tier, bandwidth, latency and hops of a path', () => {
    const cluster = ship('gb300-3056-racks')
    const at = (b: number) => {
      const { tier, bandwidth, latency, hops } = cluster.pathBetween(0, b)
      return [tier?.name, bandwidth, latency, hops.length]
    }
    expect(at(0)).toEqual([undefined, 8e12, 0, 0])
    expect(at(3)).toEqual(['node', 900e9, 1e-6, 1])
    expect(at(4)).toEqual(['rack', 900e9, 1e-6, 1])
    expect(at(72)).toEqual(['pod', 100e9, 3.5e-6, 5])
    expect(at(220_031)).toEqual(['fabric', 100e9, 4.5e-6, 7])
  })

  it('spares are the last nodes of every rack', () => {
    const { active } = ship('gb300-8-racks')
    expect([...active.slice(62, 66)]).toEqual([62, 63, 72, 73])
  })

  it('refuses ranks, places and tiers that are not there', () => {
    const cluster = ship('h200-8')
    for (const rank of [-1, 8, 0.5, Number.NaN])
      expect(refusal(() => cluster.place(rank)).message).toMatch(
        `expected a rank from 0 to 7 of cluster h200-8, got ${rank}`,
      )
    expect(refusal(() => cluster.pathBetween(0, 8)).code).toBe('invalid_argument')
    expect(refusal(() => cluster.rankAt({ rack: 0, node: 1, device: 0 })).message).toMatch(
      /a node from 0 to 0/,
    )
    expect(refusal(() => cluster.groupsBy('rack'))).toMatchObject({ code: 'not_found' })
  })

  it('the hash follows the figures, not their prose or the order of keys', () => {
    const text = textOf('h200-8')
    const { hash } = load(text)
    expect(load(text.replaceAll('datasheet', 'brochure')).hash).toBe(hash)
    const reversed = Object.fromEntries(Object.entries(parse(text)).reverse())
    expect(load(`# comment\n${stringify(reversed)}`).hash).toBe(hash)
    expect(load(text.replace('450 GB/s', '451 GB/s')).hash).not.toBe(hash)
  })
})

describe('a bad cluster file is refused with the field named', () => {
  // [what, path to set, value (undefined removes it), message]
  const cases: [string, string, unknown, RegExp][] = [
    ['an unknown field', 'speed', 1, /^speed: unknown field, expected one of name, title, device, node,/],
    [
      'an unknown field of a tier',
      'tiers.1.hold',
      4,
      /^tiers\.1\.hold: unknown field, expected one of name, holds, link, spares/,
    ],
    [
      'an unknown field of a link',
      'links.nvlink.speed',
      4,
      /^links\.nvlink\.speed: unknown field, expected one of bandwidth, latency, hops/,
    ],
    ['a missing field', 'title', undefined, /^title: .*expected string, received undefined/],
    [
      'a missing figure',
      'device.memory',
      undefined,
      /^device\.memory: expected \{ value: <bytes>, source: <text> \}, got nothing/,
    ],
    [
      'a bare number',
      'device.memory.value',
      288,
      /^device\.memory\.value: expected bytes such as '141 GB', got 288/,
    ],
    ['a missing source', 'device.memory.source', undefined, /^device\.memory\.source: .*expected string/],
    ['an empty source', 'device.memory.source', ' ', /^device\.memory\.source: .*got " "/],
    [
      'a wrong unit',
      'device.bandwidth.value',
      '8 TB',
      /^device\.bandwidth\.value: .*units: B\/s.*got '8 TB'/,
    ],
    [
      'an unknown unit',
      'links.nvlink.latency.value',
      '1 µs',
      /^links\.nvlink\.latency\.value: .*units: ns, us/,
    ],
    [
      'a negative figure',
      'links.nvlink.latency.value',
      '-1 us',
      /^links\.nvlink\.latency\.value: .*got '-1 us'/,
    ],
    [
      'a zero figure',
      'device.memory.value',
      '0 GB',
      /^device\.memory\.value: .*from 1 MB to 1 PB, got '0 GB'/,
    ],
    ['an absurd figure', 'device.memory.value', '288 PB', /^device\.memory\.value: .*got '288 PB'/],
    ['an unknown kind', 'device.kind', 'tpu', /^device\.kind: .*"gpu"\|"cpu", got "tpu"/],
    [
      'an unknown number type',
      'device.flops.bf17',
      { value: '1 TFLOP/s', source: 'x' },
      /^device\.flops\.bf17: unknown field, expected one of f64, f32, tf32, f16, bf16/,
    ],
    [
      'a figure without source',
      'device.bandwidth',
      '8 TB/s',
      /^device\.bandwidth: expected \{ value: <bandwidth>, source: <text> \}, got "8 TB\/s"/,
    ],
    [
      'a bad name of a link',
      'links.NVLink',
      {},
      /^links\.NVLink: expected a name such as nvlink, got the name "NVLink"/,
    ],
    [
      'no peak at all',
      'device.flops',
      {},
      /^device\.flops: expected the peak of at least one type, got \{\}/,
    ],
    [
      'more usable than installed',
      'device.usable_memory.value',
      '289 GB',
      /^device\.usable_memory\.value: expected at most the installed 288 GB, got 289 GB/,
    ],
    ['no devices', 'node.devices', 0, /^node\.devices: .*>=1, got 0/],
    ['a fraction of a device', 'node.devices', 4.5, /^node\.devices: .*expected int, received number/],
    ['an absurd node', 'node.devices', 5000, /^node\.devices: .*<=1024, got 5000/],
    ['a text for a count', 'node.devices', 'four', /^node\.devices: .*expected number, received string/],
    [
      'a tier that does not hold its node',
      'tiers.0.holds',
      8,
      /^tiers\.0\.holds: expected node\.devices, which is 4, got 8/,
    ],
    ['no tiers', 'tiers', [], /^tiers: .*>=1 items, got \[\]/],
    ['a misnamed first tier', 'tiers.0.name', 'tray', /^tiers\.0\.name: expected 'node', got 'tray'/],
    ['a misnamed second tier', 'tiers.1.name', 'pod', /^tiers\.1\.name: expected 'rack', got 'pod'/],
    [
      'a name twice',
      'tiers.2.name',
      'rack',
      /^tiers\.2\.name: expected a name no other level has, got 'rack'/,
    ],
    [
      'a tier without link',
      'tiers.2.link',
      undefined,
      /^tiers\.2\.link: expected the link between the 8 units/,
    ],
    [
      'an unknown link',
      'tiers.2.link',
      'ethernet',
      /^tiers\.2\.link: expected one of nvlink, infiniband, got 'ethernet'/,
    ],
    [
      'a link of no tier',
      'links.ethernet',
      parse(textOf('gb300-8-racks')).links.nvlink,
      /^links\.ethernet: expected a tier with this link/,
    ],
    ['a bad name', 'name', 'GB 300', /^name: expected a name such as nvlink, got "GB 300"/],
    [
      'only spares',
      'tiers.1.spares.count',
      18,
      /^tiers\.1\.spares\.count: expected fewer than the 18 it holds, got 18/,
    ],
    ['negative spares', 'tiers.1.spares.count', -1, /^tiers\.1\.spares\.count: .*>=0, got -1/],
    ['a NIC path without NICs', 'node.nics', undefined, /^links\.infiniband\.hops: expected node\.nics/],
    [
      'more than the NICs carry',
      'links.infiniband.bandwidth.value',
      '200 GB/s',
      /^links\.infiniband\.bandwidth\.value: expected at most .* 100 GB\/s, got 200 GB\/s/,
    ],
    ['too few racks', 'racks', 7, /^racks: expected 8 to 8, .*got 7/],
    ['too many racks', 'racks', 9, /^racks: expected 8 to 8, .*got 9/],
    [
      'an absurd cluster',
      'tiers.2.holds',
      1 << 20,
      /^tiers: expected at most 4194304 devices in all, got 75497472/,
    ],
  ]

  it.each(cases)('%s', (_, path, value, message) => {
    const file = parse(textOf('gb300-8-racks'))
    const keys = path.split('.')
    const last = keys.pop()!
    const holder = keys.reduce((at, key) => at[key], file)
    if (value === undefined) delete holder[last]
    else holder[last] = value
    const error = refusal(() => load(stringify(file)))
    expect(error.code).toBe('invalid_config')
    expect(error.message).toMatch(message)
    expect(error.place.file).toBe('test.yaml')
  })

  it.each([
    ['no YAML', 'a: [', /not valid YAML/],
    ['a key twice', 'name: a\nname: b', /not valid YAML.*unique/s],
    ['nothing', '', /\(whole file\): .*expected object, received null/],
    ['a list', '[1]', /\(whole file\): .*expected object, received array/],
  ])('%s', (_, text, message) => {
    expect(refusal(() => load(text)).message).toMatch(message)
  })

  it('bytes that are no UTF-8', () => {
    expect(refusal(() => loadCluster(Uint8Array.of(0xff, 0xfe), 'test.yaml')).message).toMatch(
      /not valid YAML/,
    )
  })
})
