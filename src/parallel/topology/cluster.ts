import { check } from '../../errors.ts'
import { hashOf } from '../../program/hash.ts'
import { type ClusterFile, parseClusterFile, peakTypes } from './cluster_file.ts'

/** Where a rank is: its rack, the node within the rack, the device within the node. */
export interface RankPlace {
  readonly rank: number
  readonly rack: number
  readonly node: number
  readonly device: number
}

/** A level of the network; its units are contiguous ranges of ranks. */
export interface Tier {
  readonly name: string
  /** From 0, innermost first. */
  readonly level: number
  /** Units of the level below in a full unit. */
  readonly holds: number
  /** Devices in a full unit. */
  readonly devices: number
  /** Units in the cluster; the last may be partly filled. */
  readonly units: number
  /** Units of the level below, in each unit, that no plan uses. */
  readonly spares: number
  /** Undefined where a unit holds one of the level below. */
  readonly link: Link | undefined
}

/** A link in SI units; every figure's source is in `Cluster.file`. */
export interface Link {
  readonly name: string
  /** Bytes per second of one device, in each direction. */
  readonly bandwidth: number
  /** Bytes per second of one device when all send at once. */
  readonly loaded: number
  /** Seconds. */
  readonly latency: number
  readonly hops: readonly string[]
}

/** How two ranks reach each other. */
export interface Path {
  /** The innermost tier that holds both; undefined for a rank and itself. */
  readonly tier: Tier | undefined
  /** Bytes per second in each direction; of the device's memory for a rank and itself. */
  readonly bandwidth: number
  /** Bytes per second in each direction when every device sends at once. */
  readonly loaded: number
  /** Seconds. */
  readonly latency: number
  /** What lies between the two devices, in order from the lower rank's. */
  readonly hops: readonly string[]
}

/** A unit of a tier: ranks `first` to `first + count - 1`. */
export interface Unit {
  readonly index: number
  readonly first: number
  readonly count: number
}

/** A cluster of equal devices; ranks are numbered through devices, then nodes, racks and the tiers above. */
export class Cluster {
  readonly name: string
  readonly tiers: readonly Tier[]
  /** All devices, spares included. */
  readonly devices: number
  readonly racks: number
  readonly nodes: number
  /** sha-256 over the figures (not titles or sources), 16 hex digits. */
  readonly hash: string
  /** Ranks that plans may use: all without the spares, ascending. */
  readonly active: Int32Array

  constructor(
    /** The file's content, with the source of every figure. */
    readonly file: ClusterFile,
  ) {
    this.name = file.name
    const [nodeTier, rackTier, ...above] = file.tiers
    this.racks = file.racks ?? above.reduce((product, t) => product * t.holds, 1)
    this.nodes = this.racks * (rackTier?.holds ?? 1)
    this.devices = this.nodes * nodeTier!.holds
    let inside = 1
    this.tiers = file.tiers.map(({ name, holds, link, spares }, level) => {
      inside *= holds
      return {
        name,
        level,
        holds,
        devices: inside,
        units: Math.ceil(this.devices / inside),
        spares: spares?.count ?? 0,
        link: link === undefined ? undefined : linkOf(link, file.links[link]!),
      }
    })
    this.hash = hashOf(figuresOf(file))
    this.active = this.withoutSpares()
  }

  /**
   * Where a rank is.
   *
   * @throws ExactmapError `invalid_argument` for a rank the cluster does not have
   */
  place(rank: number): RankPlace {
    this.checkRank(rank)
    const perNode = this.tiers[0]!.devices
    const perRack = this.tiers[1]?.devices ?? perNode
    return {
      rank,
      rack: Math.floor(rank / perRack),
      node: Math.floor((rank % perRack) / perNode),
      device: rank % perNode,
    }
  }

  /**
   * The inverse of {@link place}.
   *
   * @throws ExactmapError `invalid_argument` for a place the cluster does not have
   */
  rankAt({ rack, node, device }: Omit<RankPlace, 'rank'>): number {
    const perNode = this.tiers[0]!.devices
    const perRack = this.tiers[1]?.holds ?? 1
    const within = (index: number, end: number, what: string): void =>
      check(
        Number.isInteger(index) && index >= 0 && index < end,
        'invalid_argument',
        () => `expected a ${what} from 0 to ${end - 1} of cluster ${this.name}, got ${index}`,
      )
    within(rack, this.racks, 'rack')
    within(node, perRack, 'node')
    within(device, perNode, 'device')
    return (rack * perRack + node) * perNode + device
  }

  /** Every rank in order, spares included. */
  *ranks(): Generator<RankPlace> {
    for (let rank = 0; rank < this.devices; rank++) yield this.place(rank)
  }

  /**
   * How two ranks reach each other: over the link of the innermost tier that holds both.
   *
   * @throws ExactmapError `invalid_argument` for a rank the cluster does not have
   */
  pathBetween(a: number, b: number): Path {
    this.checkRank(a)
    this.checkRank(b)
    if (a === b) {
      const own = this.file.device.bandwidth.value
      return { tier: undefined, bandwidth: own, loaded: own, latency: 0, hops: [] }
    }
    // Ranks that differ meet first in a tier that holds more than one unit, and such a tier has a link.
    const tier = this.tiers.find((t) => Math.floor(a / t.devices) === Math.floor(b / t.devices))!
    const { bandwidth, loaded, latency, hops } = tier.link!
    return { tier, bandwidth, loaded, latency, hops }
  }

  /**
   * All units of a tier.
   *
   * @throws ExactmapError `not_found` for a name that is no tier
   */
  groupsBy(tier: string): Unit[] {
    const found = this.tiers.find((t) => t.name === tier)
    check(
      found,
      'not_found',
      () => `expected a tier of ${this.tiers.map((t) => t.name).join(', ')}, got '${tier}'`,
    )
    const { devices } = found
    return Array.from({ length: found.units }, (_, index) => ({
      index,
      first: index * devices,
      count: Math.min(devices, this.devices - index * devices),
    }))
  }

  /** Bytes that programs can have on one device. */
  get usableMemory(): number {
    const { memory, usable_memory: usable } = this.file.device
    return (usable ?? memory).value
  }

  /** Sums over all devices, spares included: bytes, bytes per second, FLOP per second by type. */
  totals(): { memory: number; hostMemory: number; bandwidth: number; flops: Record<string, number> } {
    const { device, node } = this.file
    return {
      memory: device.memory.value * this.devices,
      hostMemory: node.host_memory.value * this.nodes,
      bandwidth: device.bandwidth.value * this.devices,
      flops: Object.fromEntries(
        peakTypes.flatMap((type) => {
          const peak = device.flops[type]
          return peak ? [[type, peak.value * this.devices]] : []
        }),
      ),
    }
  }

  private checkRank(rank: number): void {
    check(
      Number.isInteger(rank) && rank >= 0 && rank < this.devices,
      'invalid_argument',
      () => `expected a rank from 0 to ${this.devices - 1} of cluster ${this.name}, got ${rank}`,
    )
  }

  /** Spares are the last units of the level below, in every unit of their tier. */
  private withoutSpares(): Int32Array {
    const sparing = this.tiers.filter((t) => t.spares > 0)
    const isActive = (rank: number): boolean =>
      sparing.every(({ devices, holds, spares }) => {
        const first = rank - (rank % devices)
        const present = Math.min(devices, this.devices - first)
        return rank - first < present - (spares * devices) / holds
      })
    return Int32Array.from({ length: this.devices }, (_, rank) => rank).filter(isActive)
  }
}

function linkOf(name: string, link: ClusterFile['links'][string]): Link {
  const { bandwidth, latency, hops, oversubscription } = link
  return {
    name,
    bandwidth: bandwidth.value,
    loaded: bandwidth.value / (oversubscription?.value ?? 1),
    latency: latency.value,
    hops,
  }
}

/** The file without its prose: equal figures give an equal hash, wherever they are from. */
function figuresOf(file: ClusterFile): unknown {
  const bare = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(bare)
    if (value === null || typeof value !== 'object') return value
    return Object.fromEntries(
      Object.entries(value)
        .filter(([key]) => key !== 'source')
        .map(([key, inner]) => [key, bare(inner)]),
    )
  }
  const { title: _, ...rest } = file
  return bare(rest)
}

/**
 * Reads a cluster file and numbers its ranks.
 *
 * @param file its name, for errors
 * @throws ExactmapError `invalid_config`: names the file, the field, what was expected and what came
 */
export const loadCluster = (bytes: Uint8Array, file: string): Cluster =>
  new Cluster(parseClusterFile(bytes, file))
