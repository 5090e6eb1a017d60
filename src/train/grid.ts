import { check } from '../errors.ts'
import { scheduleNamed } from '../parallel/schedules/index.ts'
import { oneFOneB } from '../parallel/schedules/one_f_one_b.ts'
import { buildSchedule, type Schedule } from '../parallel/schedules/schedule.ts'
import type { Plan } from '../parallel/topology/plan.ts'

/** How a training run is divided over ranks. */
export interface TrainingGrid {
  /** Pipeline ranks, microbatches of a step for each data rank, chunks. */
  readonly schedule: Schedule
  readonly tensor: number
  readonly data: number
  /** 1: data ranks divide the optimizer state (ZeRO stage 1; Rajbhandari et al. 2019, arXiv 1910.02054). */
  readonly zero: 0 | 1
  /**
   * Groups that a rank sums its microbatches in before it sums the groups: with one pipeline rank and one data rank as
   * many as there are data ranks elsewhere give the same bytes.
   */
  readonly groups?: number
}

/** Where a rank is in the grid. */
export interface GridPlace {
  readonly pipeline: number
  readonly tensor: number
  readonly data: number
}

/** One rank does everything: every microbatch forward and backward, one after the other. */
export const oneRankGrid = (microbatches: number, groups = 1): TrainingGrid => ({
  schedule: buildSchedule(oneFOneB, 1, microbatches),
  tensor: 1,
  data: 1,
  zero: 0,
  groups,
})

/**
 * Checks that a grid does what a training file says.
 *
 * @throws ExactmapError `invalid_config`
 */
export function checkGrid(
  { schedule, data, groups = 1 }: TrainingGrid,
  { accumulation, gradient_groups }: { readonly accumulation: number; readonly gradient_groups: number },
): void {
  check(
    schedule.m * data === accumulation,
    'invalid_config',
    `the plan has ${schedule.m} microbatches on ${data} data ranks, together ${schedule.m * data} a step; the training file says accumulation: ${accumulation}. Make them equal`,
  )
  check(
    gradient_groups === (data > 1 && gradient_groups > 1 ? data : groups),
    'invalid_config',
    `gradient_groups: ${gradient_groups} is for one rank, or for as many data ranks; the plan has ${schedule.p} pipeline and ${data} data ranks`,
  )
  check(
    schedule.m % groups === 0,
    'invalid_config',
    `gradient_groups: ${groups} must divide the ${schedule.m} microbatches of a step`,
  )
}

/** Into how many sums the microbatches of a step go before those are summed; 1 where each is a single microbatch. */
export function gradientSums({ schedule: { m }, data, groups = 1 }: TrainingGrid): number {
  const sums = data * groups
  return m === groups ? 1 : sums
}

export const onePlace: GridPlace = { pipeline: 0, tensor: 0, data: 0 }

/**
 * The training grid of a plan.
 *
 * @throws ExactmapError `unsupported` for axes that training does not have
 */
export function gridOfPlan(plan: Plan): TrainingGrid {
  const { schedule, microbatches, zero } = plan.file
  for (const axis of ['context', 'expert', 'replica'] as const)
    check(
      plan.size(axis) === 1,
      'unsupported',
      `training divides pipeline, tensor and data; the plan has ${plan.size(axis)} along '${axis}'`,
    )
  check(zero <= 1, 'unsupported', `zero: ${zero}: training has 0 and 1 (optimizer state divided)`)
  return {
    schedule: buildSchedule(scheduleNamed(schedule.name), plan.size('pipeline'), microbatches, plan.chunks),
    tensor: plan.size('tensor'),
    data: plan.size('data'),
    zero: zero as 0 | 1,
  }
}

/**
 * The ranks of a plan as places of its grid; plan rank r is rank r of the run.
 *
 * @throws ExactmapError `conflict` when another number of ranks was started
 */
export function placeInPlan(
  plan: Plan,
  { rank, size }: { readonly rank: number; readonly size: number },
): { readonly place: GridPlace; readonly rankAt: (place: GridPlace) => number } {
  check(
    plan.ranks === size,
    'conflict',
    `the plan has ${plan.ranks} ranks, ${size} ${size === 1 ? 'was' : 'were'} started: mpirun -np ${plan.ranks} npx exactmap train …`,
  )
  const { pipeline, tensor, data } = plan.coordinates(rank)
  const rest = { context: 0, expert: 0, replica: 0 }
  return { place: { pipeline, tensor, data }, rankAt: (place) => plan.rankAt({ ...rest, ...place }) }
}

/**
 * Without a plan: every rank has the whole model and its part of the microbatches.
 *
 * @throws ExactmapError `invalid_config` when the microbatches do not divide
 */
export function dataParallelGrid(size: number, accumulation: number): TrainingGrid {
  check(
    accumulation % size === 0,
    'invalid_config',
    `without a plan ${size} ranks divide the microbatches of a step, which are ${accumulation} (accumulation): take a multiple of ${size}, or give --plan`,
  )
  return { ...oneRankGrid(accumulation / size), data: size }
}

/** Pipeline ranks that hold the first and the last stage. */
export const endsOf = ({ schedule: { p, placement } }: TrainingGrid): { first: number; last: number } => ({
  first: 0,
  last: placement === 'v' ? 0 : p - 1,
})

/**
 * The places of every group that a rank at `place` is in, in member order:
 * - pipeline, tensor, data: along one axis
 * - model: those that hold one copy of the model together, pipeline before tensor
 * - tied: first and last stage, which both hold a tied embedding
 */
export function groupsAt(grid: TrainingGrid, place: GridPlace): Record<string, GridPlace[]> {
  const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)
  const pipelines = range(grid.schedule.p)
  const tensors = range(grid.tensor)
  const { first, last } = endsOf(grid)
  return {
    pipeline: pipelines.map((pipeline) => ({ ...place, pipeline })),
    tensor: tensors.map((tensor) => ({ ...place, tensor })),
    data: range(grid.data).map((data) => ({ ...place, data })),
    model: pipelines.flatMap((pipeline) => tensors.map((tensor) => ({ ...place, pipeline, tensor }))),
    ...(first !== last && (place.pipeline === first || place.pipeline === last)
      ? { tied: [first, last].map((pipeline) => ({ ...place, pipeline })) }
      : {}),
  }
}

export const samePlace = (a: GridPlace, b: GridPlace): boolean =>
  a.pipeline === b.pipeline && a.tensor === b.tensor && a.data === b.data
