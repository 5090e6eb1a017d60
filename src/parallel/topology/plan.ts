import { check, ExactmapError } from '../../errors.ts'
import { hashOf } from '../../program/hash.ts'
import { schedules } from '../schedules/index.ts'
import type { Cluster, Path } from './cluster.ts'
import { type Axis, axes, type PlanFile, parsePlanFile } from './plan_file.ts'

/** Where a rank is in the grid: a number from 0 for every axis, and its copy of the grid. */
export type Coordinates = Readonly<Record<Axis | 'replica', number>>

/**
 * Ranks that share one program: the same stages of the model with the same shapes, in every replica. A model's own parts
 * can set further ranks apart (`exactmap inspect` compiles them and says).
 */
export interface EqualRanks {
  /** Their pipeline coordinate. */
  readonly pipeline: number
  /** Their data coordinate, where data ranks divide state. */
  readonly data?: number
  /** The first of them, in plan ranks. */
  readonly first: number
  readonly count: number
}

/**
 * A plan on a cluster. Its ranks are numbered from 0 without gaps along the order of its axes; plan rank r runs on
 * the r-th of the cluster's active ranks, so spares and idle ranks have no plan rank.
 */
export class Plan {
  /** Ranks in use: the product of the grid times the replicas. */
  readonly ranks: number
  readonly chunks: number
  /** sha-256 over the cluster's figures and everything that decides placement and programs, 16 hex digits. */
  readonly hash: string
  private readonly strides: Readonly<Record<Axis | 'replica', number>>

  /** @throws ExactmapError `conflict` for another cluster's plan, `invalid_config` for one that does not fit */
  constructor(
    readonly file: PlanFile,
    readonly cluster: Cluster,
  ) {
    const { grid, replicas, order, schedule, microbatches, zero } = file
    if (file.cluster !== cluster.name)
      throw new ExactmapError(
        'conflict',
        `expected the plan's cluster '${file.cluster}', got '${cluster.name}'; name the same cluster in both`,
      )
    // Axes of size 1 have no place in the order: plans that differ in them alone are the same plan.
    const placed = order.filter((axis) => grid[axis] > 1)
    const strides = Object.fromEntries([...axes, 'replica'].map((axis) => [axis, 1]))
    let stride = 1
    for (const axis of placed) {
      strides[axis] = stride
      stride *= grid[axis]
    }
    strides.replica = stride
    this.strides = strides as Record<Axis | 'replica', number>
    this.ranks = stride * replicas
    this.chunks = schedule.chunks ?? schedules[schedule.name]!.chunks
    checkFits(file, cluster)
    this.hash = hashOf({
      cluster: cluster.hash,
      grid,
      replicas,
      order: placed,
      schedule: { name: schedule.name, chunks: this.chunks },
      microbatches,
      zero,
    })
  }

  /** Size of an axis. */
  size(axis: Axis | 'replica'): number {
    return axis === 'replica' ? this.file.replicas : this.file.grid[axis]
  }

  /**
   * Where a plan rank is in the grid.
   *
   * @throws ExactmapError `invalid_argument` for a rank the plan does not have
   */
  coordinates(rank: number): Coordinates {
    this.checkRank(rank)
    const at = (axis: Axis | 'replica'): number => Math.floor(rank / this.strides[axis]) % this.size(axis)
    return {
      tensor: at('tensor'),
      context: at('context'),
      expert: at('expert'),
      data: at('data'),
      pipeline: at('pipeline'),
      replica: at('replica'),
    }
  }

  /**
   * The inverse of {@link coordinates}.
   *
   * @throws ExactmapError `invalid_argument` for a coordinate outside its axis
   */
  rankAt(coordinates: Coordinates): number {
    return [...axes, 'replica' as const].reduce((rank, axis) => {
      const at = coordinates[axis]
      check(
        Number.isInteger(at) && at >= 0 && at < this.size(axis),
        'invalid_argument',
        () => `expected a ${axis} coordinate from 0 to ${this.size(axis) - 1}, got ${at}`,
      )
      return rank + at * this.strides[axis]
    }, 0)
  }

  /** The cluster's rank that a plan rank runs on. */
  clusterRank(rank: number): number {
    this.checkRank(rank)
    return this.cluster.active[rank]!
  }

  /**
   * The ranks that differ from `rank` along `along` alone, itself among them, in ascending order: with
   * `['tensor']` its tensor group, with `['data', 'expert', 'context']` those that sum its dense gradients.
   */
  groupOf(rank: number, along: readonly Axis[]): number[] {
    this.checkRank(rank)
    let group = [rank]
    for (const axis of new Set(along)) {
      const stride = this.strides[axis]
      const size = this.size(axis)
      group = group.flatMap((member) => {
        const first = member - (Math.floor(member / stride) % size) * stride
        return Array.from({ length: size }, (_, i) => first + i * stride)
      })
    }
    return group.sort((a, b) => a - b)
  }

  /** Every group of an axis, in the order of its first rank. */
  *groups(axis: Axis): Generator<number[]> {
    const stride = this.strides[axis]
    const size = this.size(axis)
    for (let rank = 0; rank < this.ranks; rank++)
      if (Math.floor(rank / stride) % size === 0) yield this.groupOf(rank, [axis])
  }

  /**
   * The ranks that a rank's activations come from and go to. With several chunks placed in turn, the last rank
   * of a pipeline hands on to the first.
   */
  pipelineNeighbours(rank: number): {
    readonly previous: number | undefined
    readonly next: number | undefined
  } {
    const { pipeline } = this.coordinates(rank)
    const length = this.size('pipeline')
    const step = (by: 1 | -1): number | undefined => {
      const to = (pipeline + by + length) % length
      if (length === 1 || (to !== pipeline + by && !this.wraps)) return undefined
      return rank + (to - pipeline) * this.strides.pipeline
    }
    return { previous: step(-1), next: step(1) }
  }

  /** How two plan ranks reach each other on the cluster. */
  pathBetween(a: number, b: number): Path {
    return this.cluster.pathBetween(this.clusterRank(a), this.clusterRank(b))
  }

  /**
   * Which ranks share one program. Those of a pipeline coordinate differ in inputs and peers, not in shapes; with `zero`
   * each data rank has a part of the state that is its own.
   */
  equalRanks(): EqualRanks[] {
    const { pipeline: pipelines, data } = this.file.grid
    const parts = this.file.zero > 0 ? data : 1
    return Array.from({ length: pipelines * parts }, (_, i) => {
      const at = { pipeline: i % pipelines, data: Math.floor(i / pipelines) }
      return {
        pipeline: at.pipeline,
        ...(parts > 1 ? { data: at.data } : {}),
        first: at.pipeline * this.strides.pipeline + at.data * this.strides.data,
        count: this.ranks / (pipelines * parts),
      }
    })
  }

  /** Whether the last rank of a pipeline hands on to the first. */
  get wraps(): boolean {
    return this.chunks > 1 && schedules[this.file.schedule.name]!.placement === 'round_robin'
  }

  private checkRank(rank: number): void {
    check(
      Number.isInteger(rank) && rank >= 0 && rank < this.ranks,
      'invalid_argument',
      () => `expected a rank from 0 to ${this.ranks - 1} of the plan, got ${rank}`,
    )
  }
}

function checkFits({ grid, replicas }: PlanFile, cluster: Cluster): void {
  const usable = cluster.active.length
  const product = axes.reduce((p, axis) => p * grid[axis], replicas)
  if (product <= usable) return
  const factors = [
    ...axes.map((axis) => ['grid.', axis, grid[axis]] as const),
    ['', 'replicas', replicas] as const,
  ].filter(([, , size]) => size > 1)
  const fits = factors
    .map(([folder, name, size]) => [`${folder}${name}`, Math.floor(usable / (product / size))] as const)
    .filter(([, most]) => most >= 1)
    .map(([name, most]) => `${name} of at most ${most}`)
  const spares = cluster.devices - usable
  throw new ExactmapError(
    'invalid_config',
    `grid: expected a product within the ${usable} ranks of ${cluster.name}${spares > 0 ? ` (${cluster.devices} without ${spares} spares)` : ''}, got ${factors.map(([, name, size]) => `${name} ${size}`).join(' x ')} = ${product}; ${
      fits.length > 0
        ? `with the others as they are, ${fits.join(' or ')} fits`
        : 'no single size makes it fit'
    }`,
  )
}

/**
 * Reads a plan file and places it on its cluster.
 *
 * @param file its name, for errors
 * @throws ExactmapError `invalid_config`: names the file, the field, what was expected and what came; `conflict`
 *   when the plan is for another cluster
 */
export function loadPlan(bytes: Uint8Array, file: string, cluster: Cluster): Plan {
  const parsed = parsePlanFile(bytes, file)
  try {
    return new Plan(parsed, cluster)
  } catch (error) {
    if (!(error instanceof ExactmapError)) throw error
    throw new ExactmapError(error.code, error.message, { file })
  }
}
