import type { Communicator, Transport } from '../../backends/transport.ts'
import { check } from '../errors.ts'
import { chooseByCost, linksOf } from '../parallel/collectives/cost.ts'
import type { ChooseAlgorithm } from '../parallel/collectives/lower.ts'
import { hostChannel } from '../parallel/host_messages.ts'
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

/**
 * Ranks in the order of their places, those of a layer's matrices next to each other. More ranks are further copies of the
 * grid, which work on their own.
 *
 * @throws ExactmapError `conflict` for ranks that make no whole number of grids
 */
export function rankInGrid(grid: InferenceGrid, transport: Transport): InferenceRank {
  const { rank, size } = transport
  const { pipeline, tensor } = grid
  const count = pipeline * tensor
  check(
    size % count === 0,
    'conflict',
    `a grid of ${pipeline} x ${tensor} takes ${count} ranks, ${size} were started; start a multiple of ${count}`,
  )
  const first = rank - (rank % count)
  return {
    hash: hashOf(grid),
    grid,
    place: { pipeline: Math.floor((rank - first) / tensor), tensor: rank % tensor },
    transport,
    rankAt: (place) => first + place.pipeline * tensor + place.tensor,
  }
}

/**
 * The ranks of a plan; plan rank r is rank r of the run. Its schedule and microbatches are training's; its replicas are
 * copies that work on their own. Collectives are carried out as is cheapest on its cluster, with sums in member order.
 *
 * @throws ExactmapError `unsupported` for axes that inference does not have, `conflict` when another number of ranks was
 *   started
 */
export function rankInPlan(plan: Plan, transport: Transport): InferenceRank {
  for (const axis of ['context', 'expert', 'data'] as const)
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
  const { pipeline, tensor, replica } = plan.coordinates(transport.rank)
  const group = plan.groupOf(transport.rank, ['tensor'])
  const rest = { context: 0, expert: 0, data: 0, replica }
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

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)

/** The token that ranks of the last stage have sampled, on every rank of the grid. */
export async function tokenOnEveryRank(
  { grid, transport, rankAt }: InferenceRank,
  token: number | undefined,
): Promise<number> {
  const root = rankAt({ pipeline: grid.pipeline - 1, tensor: 0 })
  const bytes = new Uint8Array(4)
  const view = new DataView(bytes.buffer)
  if (transport.rank !== root) {
    await transport.receive(root, hostChannel.token, bytes)
    return view.getUint32(0, true)
  }
  view.setUint32(0, token!, true)
  const ranks = range(grid.pipeline).flatMap((pipeline) =>
    range(grid.tensor).map((tensor) => rankAt({ pipeline, tensor })),
  )
  await Promise.all(
    ranks.map((rank) => (rank === root ? undefined : transport.send(rank, hostChannel.token, bytes))),
  )
  return token!
}

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
