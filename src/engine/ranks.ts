import type { Communicator, Transport } from '../../backends/transport.ts'
import { check } from '../errors.ts'
import { chooseByCost, linksOf } from '../parallel/collectives/cost.ts'
import type { ChooseAlgorithm } from '../parallel/collectives/lower.ts'
import { broadcastNumbers, hostChannel } from '../parallel/host_messages.ts'
import type { Plan } from '../parallel/topology/plan.ts'
import { hashOf } from '../program/hash.ts'

/** How many ranks share the layers of a model (pipeline) and the matrices of each layer (tensor). */
export interface InferenceGrid {
  readonly pipeline: number
  readonly tensor: number
}

/** Where a rank is in the grid. */
export interface InferencePlace {
  readonly pipeline: number
  readonly tensor: number
}

/** The part of a model that one rank has. */
export interface ModelPart {
  readonly grid: InferenceGrid
  readonly place: InferencePlace
  /** How members of a group sum and gather; `direct` where not given. */
  readonly choose?: ChooseAlgorithm
}

export const wholeModel: ModelPart = {
  grid: { pipeline: 1, tensor: 1 },
  place: { pipeline: 0, tensor: 0 },
}

/** A rank of several that run one model. All of them make the same calls with the same arguments. */
export interface InferenceRank extends ModelPart {
  /** Identifies grid and plan: the same on all ranks. */
  readonly hash: string
  readonly transport: Transport
  /** Rank of the run at a place. */
  readonly rankAt: (place: InferencePlace) => number
}

/** Ranks in the order of their places, those of a layer's matrices next to each other. */
export function rankInGrid(grid: InferenceGrid, transport: Transport): InferenceRank {
  const { rank, size } = transport
  const count = grid.pipeline * grid.tensor
  check(
    count === size,
    'conflict',
    `a grid of ${grid.pipeline} x ${grid.tensor} has ${count} ranks, ${size} were started`,
  )
  return {
    hash: hashOf(grid),
    grid,
    place: { pipeline: Math.floor(rank / grid.tensor), tensor: rank % grid.tensor },
    transport,
    rankAt: ({ pipeline, tensor }) => pipeline * grid.tensor + tensor,
  }
}

/**
 * The ranks of a plan; plan rank r is rank r of the run. Its schedule and microbatches are training's. Collectives are
 * carried out as is cheapest on its cluster, with sums in member order.
 *
 * @throws ExactmapError `unsupported` for axes that inference does not have, `conflict` when another number of ranks was
 *   started
 */
export function rankInPlan(plan: Plan, transport: Transport): InferenceRank {
  for (const axis of ['context', 'expert', 'data', 'replica'] as const)
    check(
      plan.size(axis) === 1,
      'unsupported',
      `inference divides pipeline and tensor; the plan has ${plan.size(axis)} along '${axis}'`,
    )
  check(
    plan.ranks === transport.size,
    'conflict',
    `the plan has ${plan.ranks} ranks, ${transport.size} started: mpirun -np ${plan.ranks} npx exactmap run …`,
  )
  const { pipeline, tensor } = plan.coordinates(transport.rank)
  const group = plan.groupOf(transport.rank, ['tensor'])
  const rest = { context: 0, expert: 0, data: 0, replica: 0 }
  return {
    hash: plan.hash,
    grid: { pipeline: plan.size('pipeline'), tensor: plan.size('tensor') },
    place: { pipeline, tensor },
    choose: chooseByCost({ tensor: linksOf(plan, group) }, { fixedOrder: true }),
    transport,
    rankAt: (place) => plan.rankAt({ ...rest, ...place }),
  }
}

/** First id of a rank's part of the vocabulary. */
export const firstIdOf = ({ grid, place }: ModelPart, vocab: number): number =>
  (place.tensor * vocab) / grid.tensor

/** The token that ranks of the last stage have sampled, on every rank of the run. */
export async function tokenOnEveryRank(
  { grid, transport, rankAt }: InferenceRank,
  token: number | undefined,
): Promise<number> {
  const root = rankAt({ pipeline: grid.pipeline - 1, tensor: 0 })
  const [known] = await broadcastNumbers(transport, root, hostChannel.token, Float64Array.of(token ?? 0))
  return known!
}

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)

/** The groups that a rank's program names. */
export function communicatorOf({ grid, place, transport, rankAt }: InferenceRank): Communicator {
  return {
    transport,
    groups: {
      pipeline: range(grid.pipeline).map((pipeline) => rankAt({ ...place, pipeline })),
      tensor: range(grid.tensor).map((tensor) => rankAt({ ...place, tensor })),
    },
  }
}
